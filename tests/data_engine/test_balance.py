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
