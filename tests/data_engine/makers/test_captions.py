"""Captions: what a teacher is shown, what becomes of what it says; a real small model served, and a counting server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ffmpeg
import pytest
import yaml
from rich.console import Console

from data_engine import catalog, removal, tables
from data_engine.curate import curate
from data_engine.jobs import curate as job
from data_engine.makers.captions import caption, thinned
from data_engine.recipe import load_recipe
from data_engine.sample import from_row
from data_engine.selector import Selector
from tests.data_engine.teachers.server import CountingServer


@pytest.fixture(scope="module")
def root(corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short clips of a real film and one of a street."""
    out = tmp_path_factory.mktemp("captions")
    (out / "films").mkdir()
    for name, source, start in (("a", "bbb_5min.mp4", 30), ("b", "bbb_5min.mp4", 60), ("c", "vtest.avi", 0)):
        video = ffmpeg.input(str(corpora / "video" / source), ss=start, t=6)
        video.output(str(out / f"films/{name}.mp4"), an=None, preset="ultrafast", loglevel="error").run()
    return out


@pytest.fixture
def server() -> Iterator[CountingServer]:
    started = CountingServer()
    yield started
    started.close()


def recipe(root: Path, url: str, make: list[dict[str, Any]], names: tuple[str, ...] = ("one",), **more: Any) -> Path:
    source = {"format": "videos", "path": "films", "modality": "video", "task": "film", "licence": "CC-BY-3.0"}
    teachers = [{"name": name, "url": url, "model": f"m-{name}", "attempts": 2, "back_off": 0} for name in names]
    data = {"corpus": "films", "root": str(root), "sources": [source], "make": make, "teachers": teachers}
    path = root / f"{len(list(root.glob('*.yaml')))}.yaml"
    path.write_text(yaml.safe_dump({**data, "target": "samples", **more}), encoding="utf-8")
    return path


def run(path: Path, out: Path) -> Path:
    curate(load_recipe(path), out, runner="local")
    return out


def pictures(body: dict[str, Any]) -> list[str]:
    return [part["image_url"]["url"] for part in body["messages"][-1]["content"] if part["type"] == "image_url"]


def test_a_film_is_shown_at_the_rate_asked_for_and_told_by_every_teacher(
    root: Path, server: CountingServer, tmp_path: Path
) -> None:
    make = [{"captions": {"fps": 1.0}}]
    out = run(recipe(root, server.url, make, ("one", "two")), tmp_path / "run")
    assert len(server.bodies) == 6
    for body in server.bodies:
        shown = pictures(body)
        assert len(shown) == 6 and len(set(shown)) == 6
        times = [p["text"] for p in body["messages"][-1]["content"] if p["type"] == "text"][:6]
        assert times == [f"{second:.1f} s:" for second in range(6)]
    with catalog.open_catalog(out) as connection:
        made = catalog.rows(connection, "SELECT * FROM made")
        asked = catalog.rows(connection, "SELECT * FROM asked")
    assert {row["teacher"] for row in made} == {"one", "two"} and len(made) == 6
    assert sum(json.loads(row["counts"])["requests"] for row in asked) == 6
    samples = [from_row(row) for row in tables.rows(catalog.steps(out)["make1.films"] / "samples")]
    for sample in samples:
        (told,) = sample.messages
        assert told.role == "document" and [part.kind for part in told.parts] == ["video", "text"]
        assert sample.parents and sample.licence in {"CC-BY-3.0, teacher:one", "CC-BY-3.0, teacher:two"}


def test_a_killed_runs_answers_are_not_asked_for_again(root: Path, server: CountingServer, tmp_path: Path) -> None:
    path = recipe(root, server.url, [{"captions": {"fps": 0.5}}])
    run(path, tmp_path / "run")
    before = len(server.bodies)
    for step in (tmp_path / "run/steps").glob("make1.*"):  # as if it had been killed before it was published
        step.rename(step.with_name(f".{step.name}.gone"))
    run(path, tmp_path / "run")
    assert before == 3 and len(server.bodies) == 3


def test_a_removed_film_leaves_nothing_that_was_said_of_it(root: Path, server: CountingServer, tmp_path: Path) -> None:
    out = run(recipe(root, server.url, [{"shots": {}}, {"captions": {}}]), tmp_path / "run")
    assert list((out / "cache/answers").glob("answers-*")) and len(list((out / "cache/shots").iterdir())) == 3
    shot = next(row for row in tables.rows(catalog.steps(out)["make1.films"] / "samples") if "a.mp4" in row["origin"])
    removal.remove(out, Selector("id", shot["id"]), "the artist asked")
    left = [row for step in catalog.steps(out).values() for row in tables.rows(step / "samples")]
    assert left and not [row for row in left if "a.mp4" in row["origin"]]
    assert not list((out / "cache/answers").glob("answers-*")) and len(list((out / "cache/shots").iterdir())) == 2


@pytest.mark.parametrize(
    ("budget", "exit_code"),
    [({"tokens": 1_000_000}, 0), ({"tokens": 25}, 2)],
)
def test_a_budget_ends_a_run_in_one_line(
    root: Path, server: CountingServer, tmp_path: Path, capsys: Any, budget: dict[str, int], exit_code: int
) -> None:
    path = recipe(root, server.url, [{"captions": {}}], budget=budget)
    code = job.run(path, tmp_path / "run", runner="local", console=Console(quiet=True))
    assert code == exit_code
    said = capsys.readouterr().err.strip()
    assert ("budget" in said and "\n" not in said) if exit_code else said == ""


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"teachers": []}, "names none; add `teachers`"),
        ({"make": [{"captions": {"teachers": ["onne"]}}]}, "one"),
        ({"make": [{"captions": {"min_words": 9, "max_words": 3}}]}, "min_words 9 is more than max_words 3"),
        ({"make": [{"captions": {"speech": "nowhere"}}]}, "model.bin is missing"),
        ({"make": [{"captions": {"fps": 5}}]}, "more than the 2 frames a second"),
        ({"rights": {"refused": ["*-NC*"]}}, "teacher one has no terms in rights.teachers"),
    ],
)
def test_a_recipe_that_cannot_ask_is_refused(
    root: Path, server: CountingServer, tmp_path: Path, capsys: Any, change: dict[str, Any], fault: str
) -> None:
    path = recipe(root, server.url, change.pop("make", [{"captions": {}}]), **change)
    assert job.run(path, tmp_path / "run", runner="local", console=Console(quiet=True)) == 2
    assert fault in capsys.readouterr().err.replace("\n", " ") and not server.bodies


def test_what_cannot_be_a_caption_is_asked_again_and_then_quarantined(
    root: Path, server: CountingServer, tmp_path: Path
) -> None:
    out = run(recipe(root, server.url, [{"captions": {"min_words": 390}}]), tmp_path / "run")
    assert len(server.bodies) == 6  # two attempts each
    with catalog.open_catalog(out) as connection:
        refused = catalog.rows(connection, "SELECT * FROM quarantine")
    assert len(refused) == 3 and all("words, not 390 to 400" in row["reason"] for row in refused)
    summary = json.loads((out / "summary.json").read_text())["corpora"]["films"]
    assert summary["ingested"] == summary["quarantined"] == 3


@pytest.mark.parametrize(
    ("fps", "most", "expected"),
    [(2.0, 99, list(range(12))), (1.0, 99, [0, 2, 4, 6, 8, 10]), (0.5, 99, [0, 4, 8]), (2.0, 4, [0, 3, 6, 9])],
)
def test_frames_are_thinned_evenly(fps: float, most: int, expected: list[int]) -> None:
    times = [7.25 + place / 2 for place in range(12)]
    assert thinned(times, fps, most) == [times[place] for place in expected]


def test_marks_of_the_model_are_no_caption() -> None:
    assert caption("  A dog.\n", 1, 5) == "A dog."
    for text in ("A <|im_end|> dog.", "<|box_start|>", "", " ", "one two three four five six"):
        with pytest.raises(ValueError, match=r"mark|words"):
            caption(text, 1, 5)
