"""Balance by task type: exact caps, the hardest first, and one plan whatever the order of parts or runners."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_engine import balance, tables
from data_engine.balance import Balance
from data_engine.dedup.rows import Part, Rows
from data_engine.sample import Sample, assistant, to_table, user
from tests.data_engine.test_dedup import a_run


def rows_of(path: Path, types: list[str], difficulty: list[float | None], size: int) -> Rows:
    table = pa.table(
        {
            "id": [f"id{i}" for i in range(len(types))],
            "task_type": types,
            "difficulty": pa.array(difficulty, pa.float64()),
            "answer_tokens": pa.array([3000.0 if name.startswith("long") else 10.0 for name in types]),
        }
    )
    return Rows([Part(file, file) for file in tables.write_partitions(table, path / "measures", size)])


TYPES = ["math/a"] * 30 + ["vqa/b"] * 20 + ["vqa/c"] * 3 + ["long/d"] * 10


def kept(path: Path, config: Balance, size: int = 7) -> list[str]:
    difficulty = [i / 30 for i in range(30)] + [None] * 33
    rows = rows_of(path, TYPES, difficulty, size)
    dropped = balance.find(rows, config, a_run(path / "run"), path).row
    return [TYPES[i] for i in sorted(set(range(len(TYPES))) - set(dropped.tolist()))]


def test_no_type_exceeds_its_cap_and_weights_raise_it(tmp_path: Path) -> None:
    found = kept(tmp_path, Balance(cap=4, weights={"math": 2.0, "math/a": 3.0}, long_context=1.5))
    assert {name: found.count(name) for name in set(found)} == {"math/a": 12, "vqa/b": 4, "vqa/c": 3, "long/d": 6}
    plan = tables.read(tmp_path / "plan_by_type").to_pylist()
    assert [row["task_type"] for row in plan] == sorted(set(TYPES)) and sum(row["kept"] for row in plan) == 25


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("sft/count/number/math", 2.0), ("math/algebra/x", 5.0), ("sft/math/algebra", 5.0), ("sft/logic", 3.0),
        ("sft/mathematics", 1.0), ("math", 2.0), ("other", 1.0),
    ],
)  # fmt: skip
def test_a_weight_is_for_a_level_anywhere_in_a_path(name: str, weight: float) -> None:
    config = Balance(cap=1, weights={"math": 2.0, "math/algebra": 5.0, "logic/": 3.0})
    assert balance.type_weights([name], np.zeros(1), config).tolist() == [weight]


def test_math_rows_of_a_mixed_corpus_are_weighted_by_their_built_paths(tmp_path: Path) -> None:
    types = ["sft/compute/number/math"] * 9 + ["sft/what/word/cat"] * 9
    rows = rows_of(tmp_path, types, [None] * 18, 5)
    dropped = balance.find(rows, Balance(cap=3, weights={"compute": 2.0}), a_run(tmp_path / "run"), tmp_path).row
    assert [sum(first <= row < first + 9 for row in dropped.tolist()) for first in (0, 9)] == [3, 6]


@pytest.mark.parametrize("measured", [True, False], ids=["measured", "counted"])
def test_long_targets_weigh_where_nothing_was_sampled(tmp_path: Path, measured: bool) -> None:
    """With the words of `length` if they were measured, else counted in the samples."""
    answers = ["长" * 50] * 8 + ["short"] * 8
    table = to_table(Sample("c", "text", "sft", (user("?"), assistant(answer))) for answer in answers)
    samples = tables.write_partitions(table, tmp_path / "samples", 5)
    columns = {"id": [f"id{i}" for i in range(16)], "task_type": ["a"] * 8 + ["b"] * 8}
    columns |= {"target_words": [50] * 8 + [1] * 8} if measured else {}
    measures = tables.write_partitions(pa.table(columns), tmp_path / "measures", 5)
    rows = Rows([Part(*pair) for pair in zip(samples, measures, strict=True)])
    config = Balance(cap=2, long_context=3.0, long_tokens=50)
    dropped = balance.find(rows, config, a_run(tmp_path / "run"), tmp_path).row
    assert [sum(first <= row < first + 8 for row in dropped.tolist()) for first in (0, 8)] == [2, 6]


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), 1e-9])
def test_a_weight_that_no_cap_can_bear_is_refused(weight: float) -> None:
    for fields in ({"weights": {"x": weight}}, {"long_context": weight}):
        with pytest.raises(ValueError, match=r"(greater|less) than or equal to"):
            Balance(cap=1, **fields)  # type: ignore[arg-type]


def test_the_hardest_stay(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, ["a"] * 10, [0.05 + i / 10 for i in range(10)], 3)
    assert balance.find(rows, Balance(cap=4), a_run(tmp_path / "run"), tmp_path).row.tolist() == [0, 1, 2, 3, 4, 5]


def test_the_plan_does_not_depend_on_the_parts(tmp_path: Path) -> None:
    found = []
    for size in (5, 63):
        (tmp_path / str(size)).mkdir()
        rows = rows_of(tmp_path / str(size), TYPES, [None] * 63, size)
        found.append(balance.find(rows, Balance(cap=5), a_run(tmp_path / "run"), tmp_path / str(size)).row.tolist())
    assert found[0] == found[1] and len(found[0]) == 63 - 18


@given(
    seen=st.lists(st.integers(0, 50), min_size=1, max_size=8),
    target=st.integers(0, 200),
    weight=st.floats(0.5, 4),
)
def test_the_smallest_cap_by_trying_all(seen: list[int], target: int, weight: float) -> None:
    counts, weights = np.array(seen), np.array([weight, *[1.0] * (len(seen) - 1)])
    sums = {cap: int(np.minimum(counts, balance.caps(weights, cap)).sum()) for cap in range(1, 120)}
    enough = [cap for cap, total in sums.items() if total >= min(target, int(counts.sum()))]
    assert balance.smallest_cap(counts, weights, min(target, int(counts.sum()))) == min(enough)


def test_cap_and_target_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="either cap or target"):
        Balance()
