"""What the report says of the passes, rights and changes, on runs whose truth was written down with them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from data_engine import catalog
from data_engine.curate import curate
from data_engine.dedup.minhash import MinHash
from data_engine.recipe import load_recipe
from data_engine.report import balance, changes, figures, leaks, rights, twins
from data_engine.report.corpora import passes
from data_engine.sample import Sample, document

SOURCE = {"format": "conversations", "path": "rows", "modality": "text", "task": "chat", "licence": "MIT"}
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def words(fragment: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", fragment).split())


def line(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}], **more}


def long_answer(seed: int, length: int = 60) -> list[str]:
    """Words that no other seed's answer shares a 5-gram with."""
    random = np.random.default_rng(seed)
    return [f"{NUMBERS[n]}{seed}" for n in random.integers(10, size=length)]


def write(root: Path, rows: list[dict[str, Any]], name: str = "rows") -> None:
    (root / name).mkdir(parents=True, exist_ok=True)
    text = "\n".join(json.dumps(row) for row in rows)
    (root / name / "rows.jsonl").write_text(text + "\n", encoding="utf-8")


def run(root: Path, out: Path, **more: Any) -> Path:
    recipe = {"corpus": "chat", "root": str(root), "sources": [SOURCE], "target": "samples", **more}
    root.joinpath(f"{out.name}.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    curate(load_recipe(root / f"{out.name}.yaml"), out, runner="local")
    return out


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty answers, a near-duplicate of the first, two exact ones, one leak, and six of one task type."""
    root = tmp_path_factory.mktemp("passes")
    rows = [line(f"say the words of {n}", " ".join(long_answer(n))) for n in range(20)]
    near = long_answer(0)
    near[30] = "other"
    rows += [line("say the words of 0", " ".join(near)), rows[1], rows[1]]
    rows += [
        line(f"what is {n}", str(n), task="math/algebra", licence="CC-BY-4.0", attribution="Ann") for n in range(6)
    ]
    rows.append(line("please", " ".join(long_answer(99))))
    write(root, rows)
    write(root, [line("asked by the benchmark", " ".join(long_answer(99)))], "benchmark")
    benchmark = {**SOURCE, "path": "benchmark"}
    dedup = [{"exact": {}}, {"minhash": {}}, {"decontaminate": {"benchmarks": [benchmark]}}, {"balance": {"cap": 4}}]
    operators: list[Any] = [{"task_type": {"num_topics": 0}}]
    return run(root, root / "run", operators=operators, dedup=dedup, rights={"attribution": ["CC-*"]})


def test_each_pass_is_told_with_what_it_saw_and_dropped(done: Path) -> None:
    found = {one.name: one for one in passes(done)}
    assert list(found) == ["exact", "minhash", "decontaminate", "balance"]
    assert [(one.seen, one.dropped) for one in found.values()][:3] == [(30, 2), (28, 1), (27, 1)]
    shown = words(twins.section(done))
    assert "chat exact – 30 2 6.7 %" in shown and "minhash" in shown and "decontaminate" not in shown


def test_a_pair_shows_both_sides_with_their_true_jaccard(done: Path) -> None:
    one = next(found for found in passes(done) if found.name == "minhash")
    (pair,) = twins.pairs(done, one)
    kept = ["say", "the", "words", "of", "0", *long_answer(0)]
    near = [*kept[:35], "other", *kept[36:]]
    sets = [{tuple(tokens[i : i + 5]) for i in range(len(tokens) - 4)} for tokens in (kept, near)]
    expected = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    assert pair["alike"] == f"Jaccard {expected:.2f}"
    said = [words_ for _, words_ in pair["dropped"]["words"]]
    assert "other" in said[1].split() and "other" not in pair["kept"]["words"][1][1].split()


def test_jaccard_and_hamming_by_brute_force() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        first = random.choice(NUMBERS, 30).tolist()
        second = [*first[: random.integers(5, 30)], *random.choice(NUMBERS, 5).tolist()]
        sets = [{tuple(tokens[i : i + 3]) for i in range(len(tokens) - 2)} for tokens in (first, second)]
        samples = [Sample("a", "text", "t", (document(" ".join(tokens)),)) for tokens in (first, second)]
        expected = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        assert twins.jaccard(*samples, MinHash(ngram=3)) == pytest.approx(expected)
    assert twins.hamming([0b1011, 2**63], [0b0010, 2**62]) == 2


def test_a_leak_is_shown_beside_its_origin(done: Path) -> None:
    (card,) = leaks.leaks(done, "chat")
    assert card["how"] == "holds 100%" and card["origin"].startswith("benchmark:rows.jsonl")
    shown = words(leaks.section(done))
    assert "1 of 27 samples show what the benchmark asks" in shown and "words: light edit" in shown


def test_whatever_figures_recall_has_are_shown(tmp_path: Path) -> None:
    rows = {
        "words: as they are": {"planted": 12, "recall": 1.0},
        "picture: crop": {"planted": 1200, "recall": 0.5, "recall_zh": 0.25, "note": "embedding"},
        "false alarms": 3,
    }
    (tmp_path / "recall.json").write_text(json.dumps(rows))
    columns, found = leaks.recall(tmp_path)
    assert columns == ["planted", "recall zh", "note"]
    assert found[0] == {"kind": "words: as they are", "share": 1.0, "cells": ["12", "–", "–"]}
    assert found[1] == {"kind": "picture: crop", "share": 0.5, "cells": ["1,200", "25.0 %", "embedding"]}


def test_the_balance_tells_the_types_and_the_cap(done: Path) -> None:
    one = next(found for found in passes(done) if found.name == "balance")
    about, plan = balance.plan_of(one.folder)
    assert about["cap"] == 4 and plan["seen"].to_pylist() == sorted(plan["seen"].to_pylist(), reverse=True)
    math = next(row for row in plan.to_pylist() if row["task_type"] == "math/algebra")
    assert (math["seen"], math["kept"]) == (6, 4)
    shown = words(balance.section(done))
    assert f"{len(plan)} of {len(plan)} task types survive" in shown and "math / algebra 6 4" in shown


def test_seventy_thousand_types_are_drawn_with_a_few_hundred_points() -> None:
    seen = np.floor(5e5 / np.arange(1, 70_001)) + 1
    figure = figures.ranks(seen, np.minimum(seen, 300), 300)
    before, after = figure.axes[0].lines[:2]
    assert len(before.get_xdata()) <= 400 and before.get_xdata()[-1] == 70_000
    assert max(after.get_ydata()) == 300 and before.get_ydata()[0] == seen[0]


def test_rights_tell_shares_and_who_is_owed(done: Path) -> None:
    with catalog.open_catalog(done) as connection:
        kept = catalog.rows(connection, "SELECT count(*) AS n FROM verdicts WHERE status = 'kept'")[0]["n"]
    shown = words(rights.section(done))
    assert f"CC-BY-4.0 {100 * 4 / kept:.1f} %" in shown
    assert "Ann CC-BY-4.0 chat 4 owed" in shown and shown.count("owed") == 2, "once in the table, once below it"


def test_changes_against_a_release_are_those_of_the_diff(tmp_path: Path) -> None:
    rows = [line(f"say the words of {n}", " ".join(long_answer(n))) for n in range(6)]
    write(tmp_path, rows[:4])
    run(tmp_path, tmp_path / "march", dedup=[{"exact": {}}])
    write(tmp_path, rows)
    run(tmp_path, tmp_path / "april", dedup=[{"exact": {}}], against=["march"])
    shown = words(changes.section(tmp_path / "april"))
    assert "since march" in shown and "added newly read 2" in shown
    assert re.search(r"removed dedup.exact: duplicate 4", shown)
    assert "names no earlier release" in words(changes.section(tmp_path / "march"))
