"""Diff, removal, tombstones and clearing, on real runs: against brute force over all files, and cut short anywhere."""

import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from data_engine import (
    catalog,
    curate,
    holders,
    media,
    releases,
    removal,
    sample,
    selector,
    shard_index,
    tables,
    tombstones,
)
from data_engine.cli import app
from data_engine.recipe import load_recipe
from data_engine.removal import remove
from data_engine.sample import Media, Part, Sample, document, user
from data_engine.selector import Selector
from data_engine.stream import Stream
from strict_yaml import RecipeError
from tests.data_engine import lifecycle_run as life
from tests.data_engine.shard_truth import same_as_the_shards

LATER = 4e9  # seconds: long after anything in these tests was written


@pytest.fixture(scope="module")
def root(corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = life.make_corpora(corpora, tmp_path_factory.mktemp("releases") / "corpora")
    lines = (made / "easy_vqa/train.jsonl").read_text(encoding="utf-8").splitlines()
    twins = [json.dumps({**json.loads(line), "id": f"again-{number}"}) for number, line in enumerate(lines[::7])]
    with (made / "easy_vqa/train.jsonl").open("a", encoding="utf-8") as file:  # so that a pass has rows to drop
        file.writelines(f"{line}\n" for line in twins)
    return made


@pytest.fixture(scope="module")
def whole(root: Path) -> Path:
    life.run(root, root.parent / "whole")
    return root.parent / "whole"


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(whole, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def kept(run: Path) -> dict[str, dict[str, Any]]:
    folders = [folder for name, folder in catalog.steps(run).items() if name.startswith("dedup.")]
    return {row["id"]: row for folder in folders for row in tables.rows(folder / "samples")}


def shown(run: Path, split: str) -> dict[str, Any]:
    """Every sample of the shards, read through the stream: media and all, checksums checked."""
    stream = Stream(run / "shards/manifest.json", 0, split=split)
    return {item.sample.id: (item.sample, item.media) for item in map(stream.read, range(len(stream.index)))}


def stamp(run: Path) -> tuple[dict[str, Any], Selector]:
    """A kept caption, and what selects all captions of its picture."""
    row = next(row for row in kept(run).values() if row["corpus"] == "stamps")
    return row, Selector("origin", row["origin"].partition("#")[0] + "*")


def question(run: Path) -> dict[str, Any]:
    """A kept question on a picture that other questions share, with duplicates behind it in its table."""
    return next(row for row in kept(run).values() if row["corpus"] == "easy_vqa")


# -- removal


def test_a_removed_picture_leaves_no_trace_but_its_tombstone(run: Path) -> None:
    bird, captions = stamp(run)
    siblings = {row["id"] for row in kept(run).values() if row["media"] and row["media"][0] == bird["media"][0]}
    key = bird["media"][0]["key"]
    pixels = media.MediaStore(run / "media").read(key)
    found = remove(run, captions, "the artist asked")
    assert set(found.ids) >= siblings and found.media == [key]
    names = [name.encode() for name in found.ids]
    needles = [*names, *(bytes.fromhex(name) for name in found.ids), key.encode(), pixels]
    assert life.traces(run, needles) == ["tombstones.jsonl"]
    tombs = tombstones.read([run])
    assert {tomb["id"] for tomb in tombs} == set(found.ids) and {tomb["reason"] for tomb in tombs} == {
        "the artist asked"
    }
    words = [part["text"] for message in bird["messages"] for part in message["parts"] if part["text"]]
    assert not any(word in (run / tombstones.FILE).read_text() for word in [*words, bird["origin"]])


def test_all_other_samples_stay_as_they_were_in_tables_and_shards(run: Path, whole: Path) -> None:
    gone = question(run)["id"]
    found = remove(run, Selector("id", gone), "test")
    assert found.ids == [gone] and not found.media  # other questions show the picture
    before, after = kept(whole), kept(run)
    assert after == {name: row for name, row in before.items() if name != gone}
    for split in ("train", "heldout"):
        expected = {name: item for name, item in shown(whole, split).items() if name != gone}
        assert shown(run, split) == expected
    manifest = json.loads((run / "shards/manifest.json").read_text())
    for entry in [entry for entries in manifest["splits"].values() for entry in entries]:
        tar = run / "shards" / entry["file"]
        assert entry["bytes"] == tar.stat().st_size
        with tarfile.open(tar) as archive:  # a peer reads it, too
            names = {member.name.partition(".")[0] for member in archive.getmembers()}
        assert len(names) == entry["samples"] == tables.num_rows(tar.with_suffix(".index.parquet"))
    assert manifest["shardlist"] == [
        {"url": entry["file"], "nsamples": entry["samples"]} for entry in manifest["splits"]["train"]
    ]
    for split, file in manifest["indexes"].items():
        same_as_the_shards(shard_index.read(run / "shards" / file), run / "shards", split)


def test_the_rows_of_passes_still_name_the_samples_they_did(run: Path, whole: Path) -> None:
    def dropped(data: Path) -> list[str]:
        steps = catalog.steps(data)
        ids = []
        pairs = zip(tables.parts(steps["exact.easy_vqa"] / "drops"),
                    tables.parts(steps["measure.easy_vqa"] / "measures"), strict=True)  # fmt: skip
        for drops, measures in pairs:
            names = pq.read_table(measures, columns=["origin"])["origin"].to_pylist()
            ids += [names[row] for row in pq.read_table(drops)["row"].to_pylist()]
        return ids

    assert len(dropped(whole)) > 3
    first = tables.rows(catalog.steps(whole)["measure.easy_vqa"] / "measures", ["id", "origin"])[0]
    remove(run, Selector("id", first["id"]), "test")  # its duplicate has the same id, and goes with it
    left = {row["origin"] for row in tables.rows(catalog.steps(run)["measure.easy_vqa"] / "measures", ["origin"])}
    assert dropped(run) == [origin for origin in dropped(whole) if origin in left] and len(dropped(run)) > 2


def test_a_run_after_a_removal_repeats_nothing_and_counts_what_is_there(run: Path, root: Path) -> None:
    remove(run, stamp(run)[1], "test")
    summary = json.loads((run / "summary.json").read_text())
    announced: list[Any] = []
    outcome = curate.curate(load_recipe(run / "recipe.yaml"), run, runner="local", announce=announced.append)
    assert all(step.reused for step in announced)
    assert outcome.summary["corpora"] == summary["corpora"] and outcome.summary["shards"] == summary["shards"]
    assert sum(counts["kept"] for counts in summary["corpora"].values()) == len(kept(run))
    for name, folder in catalog.steps(run).items():
        counts = catalog.record(folder)["counts"]
        for table in [table for table in counts if (folder / table).is_dir() and table != "shards"]:
            assert counts[table] == tables.count(folder / table), (name, table)
    funnel = catalog.funnel(run)
    for corpus, counts in summary["corpora"].items():
        last = [row for row in funnel if row["corpus"] == corpus][-1]
        assert last["seen"] - last["dropped"] == counts["kept"]


def fingerprint(run: Path) -> dict[str, str]:
    """Every file's content; what says when something happened is left out."""
    found = {}
    for path in sorted(path for path in run.rglob("*") if path.is_file() and not path.is_symlink()):
        content = path.read_bytes()
        if path.name == tombstones.FILE:
            content = json.dumps([{**json.loads(line), "time": ""} for line in content.splitlines()]).encode()
        found[str(path.relative_to(run))] = hashlib.sha256(content).hexdigest()
    return found


class CutError(Exception):
    """The power goes."""


@pytest.mark.parametrize("after", [0, 1, 5, 12, 20, 25, 30])
def test_a_removal_cut_short_is_whole_or_has_not_begun_and_the_next_ends_it(
    run: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The power goes at the n-th rename or deletion: before the plan nothing has changed, behind it all is done."""
    captions = stamp(run)[1]
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(whole, undisturbed, symlinks=True)
    remove(undisturbed, captions, "test")
    untouched = fingerprint(run)
    calls = 0

    def counting(original: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > after:
                raise CutError
            return original(*args, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counting(os.replace))
        patch.setattr(os, "unlink", counting(os.unlink))
        with pytest.raises(CutError):
            remove(run, captions, "test")
    begun = (run / removal.STAGING / "plan.json").exists()
    if not begun:
        shutil.rmtree(run / removal.STAGING, ignore_errors=True)
        assert fingerprint(run) == untouched
    found = remove(run, captions, "test") if not begun else None
    if begun:
        assert removal.finish(run)
    assert fingerprint(run) == fingerprint(undisturbed) and (found is None or found.ids)


def test_a_dry_run_changes_nothing_and_says_the_same(run: Path) -> None:
    before = fingerprint(run)
    planned = remove(run, Selector("licence", "gpl-2.0*"), "test", dry_run=True)
    assert fingerprint(run) == before
    done = remove(run, Selector("licence", "gpl-2.0*"), "test")
    assert (planned.ids, planned.media, planned.rows, planned.shards) == (done.ids, done.media, done.rows, done.shards)
    assert {row["corpus"] for row in kept(run).values()} == {"easy_vqa", "champ"}
    assert "GPL" not in (run / "shards/ATTRIBUTION.md").read_text()


def test_a_run_at_work_is_not_disturbed(run: Path) -> None:
    (run / "steps/.tokens.champ-0123456789ab").mkdir()
    result = CliRunner().invoke(app, ["remove", "--data", str(run), "--id", question(run)["id"]])
    assert result.exit_code == 2 and "a run is at work (tokens.champ-0123456789ab)" in result.output
    assert remove(run, Selector("id", question(run)["id"]), "test", now=LATER).ids
    assert not removal.in_progress(run)  # what a dead run left would hold the old rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--id", "zzz"], "no sample matches --id zzz"),
        ([], "give exactly one of"),
        (["--id", "a", "--person", "b"], "give exactly one of"),
        (["--person", " "], "it would name every sample"),
    ],
)
def test_wrong_removals_get_one_line_and_exit_2(whole: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["remove", "--data", str(whole), *arguments])
    assert result.exit_code == 2 and message in result.output and result.output.count("\n") == 1


# -- which samples


def planted(data: Path, samples: list[Sample]) -> Path:
    """A run folder with nothing but these samples."""
    tables.write(sample.to_table(samples), data / "steps/ingest.c-0123456789ab/samples/part-00000.parquet")
    return data


@pytest.mark.parametrize(
    ("person", "text", "found"),
    [
        ("Ann Lee", "a photo of ANN  LEE at sea", True),
        ("Ann Lee", "Joann Leeds", False),
        ("Ann Lee", "by ann\nlee.", True),
        ("王小明", "照片里是王小明和他的猫", True),
        ("王小明", "照片里是王小红", False),
        ("José", "JOSÉ's boat", True),
        ("a.b", "axb", False),
    ],
)
def test_a_person_is_found_by_name_and_not_by_part_of_a_word(
    tmp_path: Path, person: str, text: str, found: bool
) -> None:
    one = Sample("c", "text", "text", (document(text),), origin="x")
    other = Sample("c", "text", "text", (document("nobody"),), origin="y", attribution=text)
    ids = selector.matching(planted(tmp_path, [one, other]), Selector("person", person))
    assert ids == ({one.id, other.id} if found else set())


def test_the_family_of_a_sample_goes_with_it(tmp_path: Path) -> None:
    def made(text: str, *parents: Sample) -> Sample:
        return Sample("c", "text", "text", (document(text),), parents=tuple(parent.id for parent in parents))

    page, other = made("page"), made("other page")
    masked = made("masked page", page)
    quiz = made("quiz", masked, other)
    data = planted(tmp_path, [page, other, masked, quiz])
    assert selector.matching(data, Selector("id", masked.id)) == {page.id, masked.id, quiz.id}
    assert selector.matching(data, Selector("id", other.id)) == {other.id, quiz.id}


def test_an_address_finds_what_was_downloaded_from_it_and_is_not_asked_again(run: Path) -> None:
    url = "https://example.org/a.png"
    bird = stamp(run)[0]
    note = f"urls/{tombstones.hashed(url)}"
    store = media.MediaStore(run / "media")
    store.put_note(note, json.dumps({"url": url, "key": bird["media"][0]["key"]}).encode())
    assert bird["id"] in remove(run, Selector("url", url), "test").ids
    left = json.loads(store.note(note) or b"")
    assert "refused" in left and url not in json.dumps(left)


PICTURES = st.lists(st.lists(st.sampled_from("abcd"), max_size=2), min_size=2, max_size=6)


@given(PICTURES, st.sets(st.integers(0, 5), min_size=1))
def test_media_go_with_the_last_sample_that_shows_them(pictures: list[list[str]], chosen: set[int]) -> None:
    import tempfile

    made = [
        Sample("c", "image", "vqa", (user(f"{number}?", *(Part("image", media=(i,)) for i, _ in enumerate(keys))),),
               tuple(Media("image", key * 64) for key in keys))
        for number, keys in enumerate(pictures)
    ]  # fmt: skip
    gone = {made[number].id for number in chosen if number < len(made)}
    with tempfile.TemporaryDirectory() as name:
        found = selector.media_of(planted(Path(name), made), gone)
    others = {item.key for one in made if one.id not in gone for item in one.media}
    expected = {one.id: sorted({item.key for item in one.media} - others) for one in made if one.id in gone}
    assert found == expected


def finished(data: Path, name: str, inputs: list[str], **parts: pa.Table) -> str:
    """A finished step with tables of one part each; returns its hash."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    for table, rows in parts.items():
        tables.write(rows, data / f"steps/{name}-{digest}" / table / "part-00000.parquet")
    about = {
        "name": name,
        "inputs": inputs,
        "config": [],
        "counts": {table: len(rows) for table, rows in parts.items()},
    }
    (data / f"steps/{name}-{digest}/step.json").write_text(json.dumps(about))
    return digest


def test_tables_without_ids_lose_the_same_rows_and_videos_their_frames(tmp_path: Path) -> None:
    """What models saw is stored row for row with the samples; frames of a video in one file of its own."""
    keys = ["a" * 64, "b" * 64, "c" * 64]
    made = [Sample("c", "video", "qa", (document(key[:1]),), (Media("video", key),)) for key in keys]
    read = finished(tmp_path, "ingest.c", [], samples=sample.to_table(made))
    finished(tmp_path, "look.c", [read], looked=pa.table({"score": [0.1, 0.2, 0.3]}))
    finished(tmp_path, "probe.c", [read], media=pa.table({"key": keys, "kind": ["video"] * 3}))
    steps = {path.name.rpartition("-")[0]: f"steps/{path.name}" for path in (tmp_path / "steps").iterdir()}
    (tmp_path / "run.json").write_text(json.dumps({"steps": steps}))
    frames = tmp_path / steps["probe.c"] / "frames"
    for key in keys:
        tables.write(pa.table({"key": [key] * 2, "jpeg": [b"1", b"2"]}), frames / f"{key}.parquet")
    assert remove(tmp_path, Selector("id", made[1].id), "test").media == [keys[1]]
    assert tables.read(tmp_path / steps["look.c"] / "looked")["score"].to_pylist() == [0.1, 0.3]
    assert [path.stem for path in tables.parts(frames)] == [keys[0], keys[2]]
    counts = {name: catalog.record(tmp_path / folder)["counts"] for name, folder in steps.items()}
    assert counts == {"ingest.c": {"samples": 2}, "look.c": {"looked": 2}, "probe.c": {"media": 2}}


# -- tombstones


def test_a_rebuild_meets_the_tombstones_by_id_content_and_medium(run: Path, whole: Path) -> None:
    """The run's own tables before the removal are what a rebuild would bring back."""
    found = remove(run, stamp(run)[1], "asked")
    tombs = tombstones.read([run])
    for table, columns in (
        ("samples", None),
        ("measures", None),
        ("measures", ["content_key"]),
        ("measures", ["media_keys"]),
    ):
        step = "ingest.stamps" if table == "samples" else "measure.stamps"
        rows = tables.read(catalog.steps(whole)[step] / table)
        reasons = tombstones.tombstoned(rows.select(columns) if columns else rows, tombs).to_pylist()
        back = {name for name, reason in zip(rows["id"].to_pylist(), reasons, strict=True) if reason == "asked"}
        assert back == set(found.ids), (table, columns)


def words(row: dict[str, Any]) -> list[str]:
    return [part["text"] for message in row["messages"] for part in message["parts"]]


def test_a_rebuild_takes_in_nothing_of_what_was_removed(run: Path, root: Path, tmp_path: Path) -> None:
    """Not even the same picture with the same words in another file format and under other names."""
    shutil.copytree(root, tmp_path / "corpora")
    bird, captions = stamp(run)
    picture = tmp_path / "corpora/stamps" / bird["origin"].partition("#")[0]
    for number in range(12):  # of twelve names some are asked the same question: it depends on the name
        twin = picture.with_name(f"a-twin-{number}.webp")
        Image.open(picture).save(twin, lossless=True, exact=True)
        shutil.copy(picture.with_suffix(".txt"), twin.with_suffix(".txt"))
    found = remove(run, captions, "asked")
    shutil.rmtree(run / "steps")
    life.run(tmp_path / "corpora", run)
    taken = tables.rows(catalog.steps(run)["ingest.stamps"] / "samples")
    assert not set(found.ids) & {row["id"] for row in taken}
    assert not media.MediaStore(run / "media").has(bird["media"][0]["key"])
    refused = tables.rows(catalog.steps(run)["ingest.stamps"] / "quarantine")
    assert sum(row["reason"] == "removed for good: asked" for row in refused) == len(found.ids)
    twins = {row["id"] for row in taken if "a-twin" in row["origin"] and words(row) == words(bird)}
    verdicts = [row for row in tables.rows(catalog.steps(run)["dedup.stamps"] / "verdicts") if row["id"] in twins]
    assert twins and {(row["operator"], row["reason"]) for row in verdicts} == {("tombstone", "asked")}
    assert not twins & set(kept(run))


@given(st.lists(st.sampled_from("abcde"), max_size=8), st.sets(st.sampled_from("abcdef")))
def test_tombstones_meet_exactly_the_named(ids: list[str], gone: set[str]) -> None:
    tombs = [{"id": name, "content_key": None, "media": [], "origin": None, "reason": f"r{name}"} for name in gone]
    found = tombstones.tombstoned(pa.table({"id": pa.array(ids, pa.string())}), tombs).to_pylist()
    assert found == [f"r{name}" if name in gone else None for name in ids]


# -- who held it


def stage(data: Path, name: str, manifest: Path | None, source: str | None, corpora: list[str] | None = None) -> Path:
    """What a training stage leaves of itself (train.run.claim)."""
    folder = data / "train" / name
    (folder / "checkpoints/step-9/model").mkdir(parents=True)
    about = {"data": {"corpora": corpora}, "init": {"from": source, "tokenizer": None}}
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest else None
    (folder / "stage.json").write_text(json.dumps({"stage": about, "manifest": digest}))
    return folder / "checkpoints/step-9"


def test_checkpoints_that_saw_a_sample_are_named_with_those_begun_from_them(run: Path) -> None:
    train = set(shown(run, "train"))
    gone = next(name for name, row in kept(run).items() if row["corpus"] == "champ" and name in train)
    manifest = run / "shards/manifest.json"
    saw = stage(run, "stage0", manifest, None)
    began = stage(run, "stage1", manifest, "train/stage0", ["stamps"])
    stage(run, "elsewhere", manifest, None, ["stamps"])
    stage(run, "other", None, None)
    found = remove(run, Selector("id", gone), "test").held_by
    assert found.checkpoints == {str(saw): 1, str(began): 1}
    assert found.releases == {str(run / "run.json"): 1}


# -- diff


def test_two_runs_of_one_recipe_keep_the_same(whole: Path, run: Path) -> None:
    assert releases.diff(whole, run) == []


def test_a_diff_says_what_changed_and_why(root: Path, whole: Path, tmp_path: Path) -> None:
    """A problem is reworded, one is added, one is taken away, and stamps of few words are no longer wanted."""
    other = Path(shutil.copytree(root, tmp_path / "corpora"))
    path = other / "champ/champ.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    changed = json.loads(lines[3])
    for turn in changed["conversations"]:
        turn["value"] = f"Please: {turn['value']}"
    fresh = json.loads(lines[4])
    for turn in fresh["conversations"]:
        turn["value"] = f"New: {turn['value']}"
    path.write_text("\n".join([*lines[:3], json.dumps(changed), *lines[4:-1], json.dumps(fresh), ""]), encoding="utf-8")
    # The new problem stands where the last one stood: it is another by its place too.
    life.run(other, tmp_path / "later", lambda data: data["corpora"][0]["operators"][2]["length"].update(min_words=4))
    before, after = kept(whole), kept(tmp_path / "later")
    rows = {
        (row["corpus"], row["change"], row["reason"]): row["count"] for row in releases.diff(whole, tmp_path / "later")
    }
    short = [name for name in before if name not in after and before[name]["corpus"] == "stamps"]
    assert rows == {
        ("champ", "changed", "same origin, other content"): 2,
        ("stamps", "removed", "length: target too short"): len(short),
    }
    back = {(row["corpus"], row["change"]): row["reason"] for row in releases.diff(tmp_path / "later", whole)}
    assert back["stamps", "added"] == "no longer length: target too short"


def test_the_diff_answers_as_json_and_names_tombstones(whole: Path, run: Path) -> None:
    gone = question(run)["id"]
    remove(run, Selector("id", gone), "test")
    answer = json.loads(CliRunner().invoke(app, ["diff", str(whole), str(run), "--json"]).output)
    reason = "tombstone: removed on request"
    about = {"corpus": "easy_vqa", "source": "easy_vqa", "change": "removed", "reason": reason}
    assert answer == [{**about, "count": 1, "ids": [gone]}]


# -- clearing


def test_clearing_leaves_the_last_run_whole_and_takes_the_one_before(run: Path) -> None:
    """A stricter run leaves the steps of the first behind; what both share stays."""
    old = set(catalog.steps(run).values())
    recipe = life.recipe(Path(load_recipe(run / "recipe.yaml").root), run / "recipe.yaml",
                         lambda data: data["corpora"][0]["operators"][2]["length"].update(min_words=4))  # fmt: skip
    curate.curate(load_recipe(recipe), run, runner="local")
    new = set(catalog.steps(run).values())
    before = {path: path.stat().st_size for path in (run / "steps").rglob("*") if path.is_file()}
    planned = releases.gc(run, dry_run=True, now=LATER)
    freed = releases.gc(run, now=LATER)
    assert planned == freed and {item.name for item in freed} == {path.name for path in old - new}
    assert set((run / "steps").iterdir()) == new
    after = {path for path in (run / "steps").rglob("*") if path.is_file()}
    gone = sum(size for path, size in before.items() if path not in after and not path.is_symlink())
    assert gone == sum(item.bytes for item in freed) > 0
    announced: list[Any] = []
    curate.curate(load_recipe(recipe), run, runner="local", announce=announced.append)
    assert all(step.reused for step in announced)


def test_a_kept_run_file_and_a_run_that_compares_keep_their_steps(run: Path, root: Path) -> None:
    shutil.copy(run / "run.json", run.parent / "first.json")
    old = set(catalog.steps(run).values())

    def against(data: dict[str, Any]) -> None:
        data["corpora"] = [{**data["corpora"][0], "against": [str(run)], "dedup": [{"exact": {}}]}]
        data["mixture"] = {"shares": {"image": 1.0}}
        data["gates"] = [{"measure": "drift_kept", "max": 1}]
        data["target"] = "samples"

    life.run(root, run.parent / "comparing", against)
    life.run(root, run, lambda data: data["corpora"][0]["operators"][2]["length"].update(min_words=4))
    assert releases.gc(run, [run.parent / "first.json"], dry_run=True, now=LATER) == []
    freed = {item.name for item in releases.gc(run, dry_run=True, now=LATER)}
    by_name = {path.name.rpartition("-")[0]: path.name for path in old}
    assert by_name["dedup.stamps"] not in freed and by_name["gate"] not in freed and by_name["mix"] in freed


def test_media_that_no_sample_shows_and_steps_left_for_a_day_are_cleared(run: Path) -> None:
    store = media.MediaStore(run / "media")
    stray = store.path(store.put_bytes(b"nobody shows this", ".png"))
    waiting = run / "steps/.tokens.champ-0123456789ab"
    waiting.mkdir()
    (waiting / "part").write_bytes(b"12345")
    os.utime(waiting / "part", (1e9, 1e9))
    os.utime(waiting, (1e9, 1e9))
    assert releases.gc(run, now=1e9 + 3600) == [] and stray.exists() and waiting.exists()
    freed = {(item.kind, item.bytes) for item in releases.gc(run, now=1e9 + removal.DAY + 1)}
    assert freed == {("in progress", 5), ("media", 17)} and not stray.exists() and not waiting.exists()
    used = {
        item["key"]
        for folder in (run / "steps").glob("ingest.*/samples")
        for row in tables.rows(folder)
        for item in row["media"]
    }
    assert used and all(store.has(key) for key in used)


def test_a_file_that_is_no_run_is_refused(run: Path) -> None:
    result = CliRunner().invoke(app, ["gc", "--data", str(run), "--keep", str(run / "summary.json")])
    assert result.exit_code == 2 and "not a run file" in result.output
    assert holders.steps_of(run / "recipe.yaml") is None


def test_a_published_release_survives_runs_that_came_to_nothing(root: Path, tmp_path: Path) -> None:
    def published(data: Any) -> None:
        data["corpora"], data["target"] = data["corpora"][:1], "samples"

    def refused(data: Any) -> None:
        published(data)
        data["corpora"][0]["dedup"] = []
        data["gates"] = [{"measure": "kept", "min": 10**9}]

    def cut_short(data: Any) -> None:
        published(data)
        benchmark = {"format": "conversations", "path": "broken", "modality": "text", "task": "t", "licence": "MIT"}
        data["corpora"][0]["dedup"] = [{"decontaminate": {"benchmarks": [benchmark]}}]

    (root / "broken").mkdir()
    (root / "broken/rows.jsonl").write_text("no benchmark\n")

    run = tmp_path / "run"
    assert not life.run(root, run, published).failed
    held = tables.read(run / "release/stamps")
    assert life.run(root, run, refused).failed
    named = (run / "run.json").read_text()
    with pytest.raises(RecipeError, match="none of 1 records"):
        life.run(root, run, cut_short)
    assert (run / "run.json").read_text() == named
    assert {freed.kind for freed in releases.gc(run, now=LATER)} <= {"step", "in progress"}
    assert tables.read(run / "release/stamps").equals(held)
