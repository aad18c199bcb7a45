"""Duplicates: every near pair found, whoever runs the join."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine.dedup import exact, perceptual
from data_engine.dedup.components import components
from data_engine.dedup.engine import Engine, duckdb_sql, spark_sql


def hashes(seed: int) -> npt.NDArray[np.uint64]:
    """Random hashes, with neighbours planted at distances 1 to 8 of some of them."""
    random = np.random.default_rng(seed)
    base = random.integers(0, 2**64, 60, dtype=np.uint64)
    flips = [sum(1 << int(bit) for bit in random.choice(64, 1 + i % 8, replace=False)) for i in range(30)]
    return np.concatenate([base, base[:30] ^ np.array(flips, dtype=np.uint64)])


def brute(values: npt.NDArray[np.uint64], radius: int) -> list[list[int]]:
    near = np.triu(np.bitwise_count(values[:, None] ^ values[None]) <= radius, 1)
    found: list[list[int]] = np.argwhere(near).tolist()
    return found


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), radius=st.integers(0, 8))
def test_all_near_pairs_are_found(seed: int, radius: int) -> None:
    assert perceptual.near_pairs(hashes(seed), radius, duckdb_sql).tolist() == brute(hashes(seed), radius)


def test_components_by_brute_force() -> None:
    pairs = [(5, 2), (2, 9), (7, 8), (1, 1)]
    assert components(10, pairs) == [0, 1, 2, 3, 4, 2, 6, 7, 7, 2]


def measured() -> pa.Table:
    rows: list[dict[str, Any]] = [
        {"id": f"s{i:02d}", "content_key": f"c{i % 7}", "media_keys": [f"m{i % 9}"], "phash": 0b1111 << (i % 9) * 6}
        for i in range(20)
    ]
    rows += [{"id": "s03", "content_key": "c3", "media_keys": ["m3", "m4"], "phash": None}]
    rows += [{"id": "text", "content_key": "t", "media_keys": [], "phash": None}]
    rows += [{"id": "near", "content_key": "n", "media_keys": ["m0b"], "phash": 0b0111}]
    types = [("id", pa.string()), ("content_key", pa.string()), ("media_keys", pa.list_(pa.string()))]
    return pa.Table.from_pylist(rows, schema=pa.schema([*types, ("phash", pa.uint64())]))


def test_exact_keeps_the_first_of_each_and_counts_a_repeated_record() -> None:
    found = exact.find(measured(), exact.Exact(), duckdb_sql)
    assert len(found) == 14 and found[7] == "s00" and found[20] == "s03" and 21 not in found


def test_perceptual_keeps_all_samples_of_the_kept_picture() -> None:
    found = perceptual.find(measured(), perceptual.Perceptual(max_hamming=1), duckdb_sql)
    assert found == {22: "m0"}


@pytest.mark.parametrize("radius", [0, 4])
@pytest.mark.usefixtures("spark")
def test_spark_and_duckdb_say_the_same(radius: int) -> None:
    def both(find: Any, config: Any) -> tuple[Any, Any]:
        engines: tuple[Engine, Engine] = (duckdb_sql, spark_sql)
        first, second = (find(measured(), config, engine) for engine in engines)
        return first, second

    for find, config in ((exact.find, exact.Exact()), (perceptual.find, perceptual.Perceptual(max_hamming=radius))):
        first, second = both(find, config)
        assert first == second
    values = hashes(radius)
    assert perceptual.near_pairs(values, radius, spark_sql).tolist() == brute(values, radius)
