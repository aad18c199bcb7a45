"""A whole video recipe: films to shots, reading exercises beside them, filters, near-duplicates, a release."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import ffmpeg
import pytest
import yaml
from typer.testing import CliRunner

from data_engine import catalog, making, tables
from data_engine import sample as samples
from data_engine.cli import app
from data_engine.curate import check, curate
from data_engine.recipe import Recipe, load_recipe
from data_engine.runners.partition import RunnerName
from data_engine.sample import Sample, document
from strict_yaml import RecipeError
from tests import films

RECIPE: dict[str, Any] = {
    "corpus": "clips",
    "sources": [{"format": "videos", "path": "films", "modality": "video", "task": "footage", "licence": "CC-BY-3.0"}],
    "make": [{"shots": {"min_seconds": 1.0}}, {"frame_text": {"max_side": 640}, "keep": {}}],
    "operators": [
        {"duration": {"min_duration": 1.5}},
        {"resolution": {"min_side": 200}},
        {"black": {"max_share": 0.5}},
        {"static": {"max_share": 0.9}},
        {"motion": {"min_motion": 0.1}},
        {"text_area": {"frames": 1, "max_area": 0.2}},
        {"safety": {"frames": 1}},
    ],
    "dedup": [{"exact": {}}, {"video": {}}],
    "holdout": {"share": 0.0},
    "frames": {"fps": 2.0, "max_side": 224},
    "target": "samples",
}


def _cut(source: Path, out: Path, start: float, seconds: float, **options: Any) -> None:
    cut = ffmpeg.input(str(source), ss=start, t=seconds)
    cut.output(str(out), an=None, preset="veryfast", loglevel="error", **options).run()


@pytest.fixture(scope="module")
def root(corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of two shots, a copy of its end, a trailer with a title card, a street, one dark film and two broken."""
    root = tmp_path_factory.mktemp("root")
    folder = root / "films"
    folder.mkdir()
    film = corpora / "video/bbb_5min.mp4"
    _cut(film, folder / "film.mp4", 60.0, 9.0, vf="scale=640:-2")
    _cut(film, folder / "copy.mkv", 65.2, 3.5, vf="scale=426:-2,fps=30", crf=32)
    _cut(films.trailer(), folder / "trailer.mp4", 30.0, 8.0, vf="scale=640:-2")
    _cut(corpora / "video/vtest.avi", folder / "street.mp4", 4.0, 4.0)
    _cut(films.fetched("carphone_pristine.mp4"), folder / "small.mp4", 0, 4.0)
    ffmpeg.input("color=black:size=320x240:rate=10:duration=3", f="lavfi").output(
        str(folder / "dark.mp4"), loglevel="error"
    ).run()
    whole = film.read_bytes()
    (folder / "broken.mp4").write_bytes(whole[: len(whole) // 20])
    (folder / "empty.mp4").touch()
    return root


def run(root: Path, out: Path, runner: RunnerName, **changes: Any) -> dict[str, Any]:
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump({"root": str(root), **RECIPE, **changes}), encoding="utf-8")
    outcome = curate(load_recipe(path), out, runner=runner)
    assert not outcome.failed
    return outcome.summary


@pytest.fixture(scope="module")
def local(root: Path) -> Path:
    run(root, root / "local", "local")
    return root / "local"


def released(out: Path) -> list[samples.Sample]:
    return samples.from_table(tables.read(out / "release/clips"))


def test_what_is_kept_is_what_was_planted(local: Path) -> None:
    kept = released(local)
    shots = [sample for sample in kept if sample.task == "footage"]
    assert Counter(sample.origin.partition("#")[0] for sample in shots).keys() == {
        "film.mp4",
        "street.mp4",
        "trailer.mp4",
    }
    assert {s.task for s in kept} == {"footage", "text_at", "text_when"}
    read = [sample for sample in kept if sample.task != "footage"]
    assert all("and three rodent pests" in sample.messages[1].text.lower() for sample in read)
    assert all(sample.media[0].start is not None and sample.parents for sample in kept)


def test_counts_add_up_and_every_refusal_has_its_reason(local: Path) -> None:
    summary = json.loads((local / "summary.json").read_text())["corpora"]["clips"]
    assert summary["ingested"] == sum(summary[name] for name in ("kept", "dropped", "rerouted", "quarantined"))
    with catalog.open_catalog(local) as connection:
        refused = {row["locator"].partition("#")[0]: row for row in catalog.rows(connection, "FROM quarantine")}
        unmade = catalog.rows(connection, "SELECT DISTINCT maker, reason FROM unmade")
        dropped = catalog.rows(connection, "FROM verdicts WHERE status = 'dropped'")
        held = catalog.rows(connection, "SELECT id FROM samples WHERE origin LIKE 'film.mp4#%'")
    assert refused["empty.mp4"]["reason"] == "empty file" and refused["broken.mp4"]["field"] == "media"
    assert any(row["maker"] == "frame_text" and "agree" in row["reason"] for row in unmade)
    why = {row["origin"].partition("#")[0]: row for row in dropped}
    assert why["dark.mp4"]["reason"] == "black frames" and why["small.mp4"]["reason"] == "image too small"
    assert why["copy.mkv"]["operator"] == "dedup.video"
    assert why["copy.mkv"]["reason"].removeprefix("duplicate of ") in {row["id"] for row in held}


def test_a_samples_story_tells_of_its_making(local: Path) -> None:
    shot = next(s for s in released(local) if s.task == "footage" and s.origin.startswith("film.mp4"))
    read = next(s for s in released(local) if s.task == "text_when")
    story = catalog.why(local, shot.id)
    assert story["lineage"][0]["operator"] == "shots"
    assert story["lineage"][0]["measures"]["found by"] == "the built-in detector"
    line = catalog.why(local, read.id)["lineage"][0]
    assert line["operator"] == "frame_text" and line["reason"] == "by rapidocr"
    shown = CliRunner().invoke(app, ["why", read.id, "--data", str(local)])
    assert shown.exit_code == 0 and "frame_text" in shown.output and "made of" in shown.output


def test_ray_makes_the_same_bytes(root: Path, local: Path, ray: Any) -> None:
    run(root, root / "ray", "ray")
    one, other = ({f.name: f.read_bytes() for f in (out / "release/clips").iterdir()} for out in (local, root / "ray"))
    assert one == other and one


def test_a_release_is_what_the_next_run_reads(root: Path, local: Path) -> None:
    """Filters first; then makers, and teachers, only on what was kept."""
    source = {
        "format": "release",
        "path": "local/release/clips",
        "modality": "video",
        "task": "any",
        "licence": "CC0-1.0",
    }
    source["options"] = {"media": str(local / "media")}
    summary = run(root, root / "next", "local", sources=[source], make=[], operators=[], dedup=[])
    assert summary["corpora"]["clips"]["kept"] == len(released(local))
    ours = {sample.id: sample for sample in released(root / "next")}
    for sample in released(local):
        assert ours[sample.id].parents == sample.parents and ours[sample.id].origin == sample.origin
        assert ours[sample.id].licence == "CC-BY-3.0, CC0-1.0"
    (root / "lost").mkdir()
    lost = {**source, "options": {"media": str(root / "lost")}}
    summary = run(root, root / "without", "local", sources=[lost], make=[], operators=[], dedup=[], gates=[])
    assert summary["corpora"]["clips"]["quarantined"] == len(ours) and not summary["corpora"]["clips"]["kept"]


def test_wrong_makers_are_refused_before_anything_runs() -> None:
    for wrong, said in (
        ({"shots": {"min_seconds": 5.0, "max_seconds": 6.0}}, "at least twice"),
        ({"shots": {"model": "no/such.pth"}}, "no such file"),
        ({"shot": {}}, "shots"),
        ({}, "no maker"),
        ({"frame_text": {"fps": 3.0}}, "tenths"),
    ):
        with pytest.raises(RecipeError, match=said):
            check(Recipe.model_validate({**RECIPE, "make": [wrong]}))


def test_every_maker_is_where_it_is_said_to_be() -> None:
    assert all(issubclass(making.maker(name), making.Maker) for name in making.MAKERS)


class Odd(making.Maker):
    """Twice what is odd; of four it knows nothing, of six it says nothing, eight is broken."""

    def make(self, samples, tools):  # type: ignore[no-untyped-def]
        for sample in samples:
            number = int(sample.text)
            if number % 2:
                yield making.Made(making.derived([sample], "twice", [document(str(2 * number))]))
            elif number in {2, 4}:
                yield making.Unmade(sample, "even")
            elif number == 8:
                yield making.faulty(sample, "text", "broken")


def numbers(*values: int) -> list[Sample]:
    return [Sample("c", "text", "number", (document(str(n)),), source="s", origin=f"{n}") for n in values]


def test_a_sample_is_lost_only_if_nothing_was_made_of_it() -> None:
    given = numbers(1, 2, 3, 4, 6, 8)
    alone = making.make(given, [("odd", Odd())], making.Tools(Path("none")))
    assert alone["samples"]["task"].to_pylist() == ["twice", "twice"]
    rows = [(row["reason"], row["lost"]) for row in alone["unmade"].to_pylist()]
    assert rows == [("even", True), ("even", True), ("no maker of the stage took it up", True)]
    assert alone["quarantine"]["locator"].to_pylist() == ["8"]
    both = making.make(given, [("odd", Odd()), ("keep", making.Keep()), ("odd", Odd())], making.Tools(Path("none")))
    assert len(both["samples"]) == 2 + 6 + 2 and not any(both["unmade"]["lost"].to_pylist())
    twice = making.make(given, [("odd", Odd()), ("odd", Odd())], making.Tools(Path("none")))
    assert sum(twice["unmade"]["lost"].to_pylist()) == 3
