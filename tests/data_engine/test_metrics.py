"""Streamed metrics against numpy and brute force over whole tables; sketches against exact quantiles."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_engine import metrics, sample, tables
from data_engine.operators.text import languages
from data_engine.sample import Sample, assistant, document, user

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


def brute_psi(now: list[float], before: list[float]) -> float:
    """The index over the deciles of `before`, from the sorted values themselves."""
    ordered = sorted(before)
    ends = sorted({ordered[int(np.ceil(len(ordered) * tenth / 10)) - 1] for tenth in range(1, 10)})
    found = []
    for values in (now, before):
        counts = np.bincount(np.searchsorted(ends, values, side="left"), minlength=len(ends) + 1)
        filled = np.maximum(counts.astype(float), 0.5)
        found.append(filled / filled.sum())
    p, q = found
    return float(((p - q) * np.log(p / q)).sum())


@given(st.lists(st.integers(-1000, 1000), min_size=1), st.lists(st.integers(-1000, 1000), min_size=1))
def test_the_stability_index_of_whole_numbers_is_exact(now: list[int], before: list[int]) -> None:
    made = metrics.stability(*(metrics.sketch(np.array(values, float)) for values in (now, before)))
    assert made == pytest.approx(brute_psi([float(v) for v in now], [float(v) for v in before]), abs=1e-9)


def test_a_shift_is_seen_and_a_second_draw_is_not() -> None:
    random = np.random.default_rng(0)
    first, second, moved = random.normal(0, 1, 20_000), random.normal(0, 1, 20_000), random.normal(0.6, 1, 20_000)
    sketches = [metrics.sketch(values) for values in (first, second, moved)]
    same, shifted = metrics.stability(sketches[1], sketches[0]), metrics.stability(sketches[2], sketches[0])
    assert same is not None and shifted is not None
    # Between normals the index over deciles comes near the symmetric divergence, which is the shift squared.
    assert same < 0.01 and shifted == pytest.approx(0.36, rel=0.15)


@given(st.lists(FINITE, min_size=2))
def test_a_sketch_keeps_order(values: list[float]) -> None:
    places = [int(np.flatnonzero(metrics.sketch(np.array([value])))[0]) for value in sorted(values)]
    assert places == sorted(places)


def test_a_sketch_is_a_fifth_of_a_percent_fine() -> None:
    place = [
        int(np.flatnonzero(metrics.sketch(np.array([value])))[0]) for value in (1e6, 1.003e6, -3.0, -3.01, 0.0, -0.0)
    ]
    assert place[0] < place[1] and place[3] < place[2] and place[4] == place[5]


@given(st.lists(st.lists(st.none() | FINITE | st.just(float("nan")), max_size=6), min_size=1, max_size=4))
def test_statistics_over_parts_are_those_of_the_whole(parts: list[list[float | None]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        for index, values in enumerate(parts):
            tables.write(pa.table({"x": pa.array(values, pa.float64())}), Path(name) / f"part-{index}.parquet")
        found = metrics.statistics(Path(name))
    whole = [value for values in parts for value in values]
    valid = [value for value in whole if value is not None and not np.isnan(value)]
    assert found["measures.x.null_share"] == (pytest.approx(1 - len(valid) / len(whole)) if whole else None)
    assert found["measures.x.min"] == (min(valid) if valid else None)
    assert found["measures.x.max"] == (max(valid) if valid else None)
    assert found["measures.x.mean"] == (pytest.approx(np.mean(valid), rel=1e-6) if valid else None)


def test_shares_of_a_planted_corpus(tmp_path: Path) -> None:
    said = ["A red bird on a branch", "一只红色的鸟在树枝上", "Красная птица", "12 + 30"]
    kept = [Sample("c", "text", "qa", (user("what?"), assistant(text))) for text in said]
    kept.append(Sample("c", "video", "qa", (document("The street camera sees a car"),)))
    tables.write(sample.to_table(kept), tmp_path / "samples" / "part-00000.parquet")
    verdicts = [("kept", None, None)] * 5 + [
        ("dropped", "dedup.exact", "duplicate of abc"),
        ("dropped", "dedup.minhash", "duplicate of abd"),
        ("dropped", "dedup.decontaminate", "in benchmark mini"),
        ("dropped", "label", "no text could be read"),
    ]
    columns = dict(zip(("status", "operator", "reason"), map(list, zip(*verdicts, strict=True)), strict=True))
    tables.write(pa.table({"id": list("abcdefghi"), **columns}), tmp_path / "verdicts" / "part-00000.parquet")
    tables.write(pa.table({"tokens": [10, 20, 30, 40, 50]}), tmp_path / "tokens" / "part-00000.parquet")
    spoken = languages(pa.array([*said, "The street camera sees a car"]))
    tables.write(
        pa.table({"num_words": [5, 1, 2, None, 6], "language": spoken}), tmp_path / "measures" / "part-00000.parquet"
    )
    tables.write(pa.table({"has_target": [True] * 8 + [False]}), tmp_path / "measured" / "part-00000.parquet")
    folders = {name: tmp_path / name for name in ("samples", "verdicts", "tokens", "measures", "measured")}
    row = metrics.of_corpus(folders, {"ingested": 10, "kept": 5, "dropped": 4, "quarantined": 1})
    assert (row["share_zh"], row["share_en"], row["share_other"]) == (0.2, 0.4, 0.4)
    assert (row["share_text"], row["share_video"], row["share_image"]) == (0.8, 0.2, 0.0)
    assert (row["duplicate_share"], row["contaminated_share"], row["no_target_share"]) == (0.2, 0.1, 0.1)
    assert (row["mean_tokens"], row["tokens"], row["measures.num_words.mean"]) == (30, 150, 3.5)
    assert row["measures.num_words.null_share"] == pytest.approx(0.2)


def test_drift_is_relative_and_finite() -> None:
    now, before = {"kept": 90, "share_zh": 0.1, "measures.x.mean": 3.0}, {"kept": 100, "share_zh": 0, "tokens": 5}
    assert metrics.drift(now, before) == {"drift_kept": pytest.approx(-0.1), "drift_share_zh": pytest.approx(1e8)}
