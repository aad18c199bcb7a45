"""Fetching: pinned, verified, whole or absent, and honest about what could not be had."""

import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ffmpeg
import pytest
from rich.console import Console

from data_engine import demo_corpora
from data_engine.demo_corpora import MANIFEST, Item, fetch, manifest_table

ROOT = Path(__file__).resolve().parents[2]
CHAMP = next(item for item in MANIFEST if item.name == "champ")


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=1000, file=io.StringIO())


def test_the_documentation_lists_the_manifest() -> None:
    assert manifest_table() in (ROOT / "docs" / "demo_corpora.md").read_text(encoding="utf-8")


def test_a_second_fetch_changes_nothing(corpora, console) -> None:
    before = {path: path.stat().st_mtime_ns for path in corpora.root.rglob("*.json*")}
    kept = tuple(item for item, r in zip(MANIFEST, corpora.results, strict=True) if r.status != "skipped")
    again = fetch(corpora.root, console, kept)
    assert [result.status for result in again] == ["present"] * len(kept)
    assert {path: path.stat().st_mtime_ns for path in corpora.root.rglob("*.json*")} == before
    assert console.export_text() == ""


def test_easy_vqa_has_the_published_counts(corpora) -> None:
    rows = [json.loads(line) for line in (corpora / "easy_vqa" / "train.jsonl").read_text().splitlines()]
    test = json.loads((corpora / "easy_vqa_test" / "questions.json").read_text())
    answers = set((corpora / "easy_vqa_test" / "answers.txt").read_text().split())
    assert (len(rows), len({row["image"] for row in rows}), len(test)) == (38_575, 4_000, 9_673)
    assert {row["conversations"][1]["value"] for row in rows} == answers
    assert len(list((corpora / "easy_vqa_test" / "images").glob("*.png"))) == 1_000


def test_the_film_is_cut_by_copy(corpora) -> None:
    stream = ffmpeg.probe(str(corpora / "video/bbb_5min.mp4"))["streams"]
    assert [(s["codec_name"], s["width"], s["height"]) for s in stream] == [("h264", 1280, 720)]
    assert float(stream[0]["duration"]) == pytest.approx(300, abs=0.1)


def test_what_cannot_be_had_is_skipped_in_one_line(tmp_path, console) -> None:
    gone = replace(CHAMP, version="99.0")
    (result,) = fetch(tmp_path, console, (gone,))
    warning = console.export_text()
    assert result.status == "skipped" and len(warning.splitlines()) == 1
    assert "pip download" in warning and "champ" in warning
    assert tree(tmp_path) == [".lock"]


def test_other_bytes_under_the_pinned_version_are_refused(tmp_path, console) -> None:
    (result,) = fetch(tmp_path, console, (replace(CHAMP, sha256="0" * 64),))
    assert result.status == "skipped" and "hash" in result.reason.lower()
    assert tree(tmp_path) == [".lock"]


def killed_half_way(archive: Path, out: Path) -> None:
    """Unpacks the real corpus, then dies as by a power cut."""
    CHAMP.unpack(archive, out)
    (out / "champ" / "champ.jsonl").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_fetch_leaves_nothing_that_passes_for_whole(corpora, tmp_path, console) -> None:
    whole = corpora / "champ" / "champ.jsonl"
    code = (
        "from pathlib import Path; from dataclasses import replace; import runpy;"
        f"test = runpy.run_path({__file__!r}); item = replace(test['CHAMP'], unpack=test['killed_half_way']);"
        f"test['fetch'](Path({str(tmp_path)!r}), None, (item,))"
    )
    died = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert not (tmp_path / "champ").exists()
    (result,) = fetch(tmp_path, console, (CHAMP,))
    held_out = corpora / "champ_heldout" / "problems.jsonl"
    assert result.status == "fetched" and result.bytes == whole.stat().st_size + held_out.stat().st_size
    assert (tmp_path / "champ" / "champ.jsonl").read_bytes() == whole.read_bytes()
    assert tree(tmp_path) == [".fetched/champ.json", ".lock", "champ/champ.jsonl", "champ_heldout/problems.jsonl"]


def test_a_new_pin_replaces_what_is_there(tmp_path, console) -> None:
    """A stamp of other content counts as absent, though its files are there."""
    other: Item = CHAMP
    (tmp_path / demo_corpora.FETCHED).mkdir()
    (tmp_path / "champ").mkdir()
    (tmp_path / "champ" / "old.jsonl").write_text("old")
    stamp = {"sha256": "0" * 64, "paths": ["champ"], "bytes": 3}
    (tmp_path / demo_corpora.FETCHED / "champ.json").write_text(json.dumps(stamp))
    (result,) = fetch(tmp_path, console, (other,))
    assert result.status == "fetched"
    assert not (tmp_path / "champ" / "old.jsonl").exists()


def test_every_tenth_problem_is_kept_for_judging(corpora) -> None:
    problems = (corpora / "champ" / "champ.jsonl").read_text(encoding="utf-8").splitlines()
    assert (corpora / "champ_heldout" / "problems.jsonl").read_text(encoding="utf-8").splitlines() == problems[::10]
