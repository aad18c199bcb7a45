"""Near-duplicates where it is hard: texts of one template, large buckets, little memory, earlier releases."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from data_engine import sample as samples
from data_engine import tables
from data_engine.curation import Curation
from data_engine.dedup import minhash, minhash_signatures
from data_engine.dedup import minhash_kernels as kernels
from data_engine.dedup.components import components
from data_engine.dedup.rows import Part, Rows
from data_engine.recipe import Recipe
from data_engine.sample import Sample, document
from data_engine.step import Run
from data_engine.words import tables as word_tables
from data_engine.words import text_buffers

Sets = list[npt.NDArray[np.uint64]]


def a_run(out: Path) -> Curation:
    source = {"format": "text", "path": ".", "modality": "text", "task": "text", "licence": "CC0"}
    return Curation(Recipe.model_validate({"corpus": "c", "sources": [source]}), Run(out), "local")


def parts_of(texts: list[str], folder: Path, size: int) -> list[Part]:
    found = [Sample("c", "text", "text", (document(words),), origin=str(i)) for i, words in enumerate(texts)]
    measures = [{"id": str(i), "media_keys": []} for i in range(len(texts))]
    schema = pa.schema([("id", pa.string()), ("media_keys", pa.list_(pa.string()))])
    first = tables.write_partitions(samples.to_table(found), folder / "samples", size)
    second = tables.write_partitions(pa.Table.from_pylist(measures, schema), folder / "measures", size)
    return [Part(*both) for both in zip(first, second, strict=True)]


def folder_in(path: Path, name: str) -> Path:
    (path / name).mkdir(parents=True)
    return path / name


def templated(count: int, chinese: bool, seed: int = 0) -> tuple[list[str], npt.NDArray[np.int64]]:
    """(texts of one template of 200 words with a slot of 12, and copies of a tenth with four words changed; of which
    each is a copy, of the last ones)."""
    random = np.random.default_rng(seed)
    words = np.array([chr(0x4E00 + i) if chinese else f"w{i}" for i in range(5000)])
    texts = np.tile(random.choice(words, 200), (count, 1))
    for text in texts:
        start = int(random.integers(188))
        text[start : start + 12] = random.choice(words, 12)
    of = random.choice(count, count // 10, replace=False)
    copies = texts[of]
    for text in copies:
        text[10 + 48 * np.arange(4) + random.integers(4, size=4)] = random.choice(words, 4)
    return [("" if chinese else " ").join(text) for text in [*texts, *copies]], of


def sets_of(texts: list[str]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    sets, ends = kernels.shingle_sets(*text_buffers(pa.array(texts)), *word_tables(), 5)
    return sets, np.concatenate([[0], ends])


def all_similar(sets: npt.NDArray[np.uint64], bounds: npt.NDArray[np.int64], threshold: float) -> npt.NDArray[np.int64]:
    """All pairs [N, 2] of sets whose Jaccard similarity reaches the threshold, by a product of matrices."""
    codes = np.unique(sets, return_inverse=True)[1]
    held = sparse.csr_matrix((np.ones(len(codes), np.int64), codes, bounds))
    shared = (held @ held.T).toarray()
    size = np.diff(bounds)
    similar = shared / (size[:, None] + size[None] - shared) >= threshold
    pairs: npt.NDArray[np.int64] = np.argwhere(np.triu(similar, 1))
    return pairs


@pytest.mark.parametrize("chinese", [False, True])
def test_pairs_are_found_among_texts_of_one_template(tmp_path: Path, chinese: bool) -> None:
    texts, of = templated(1200, chinese)
    rows, config = Rows(parts_of(texts, tmp_path, 500)), minhash.MinHash()
    signed = minhash_signatures.sign(pa.array(texts), np.zeros(len(texts), np.uint64), config)
    assert np.unique(signed[:, 0], return_counts=True)[1].max() > 64
    found = minhash.find(rows, config, a_run(tmp_path / "run"), folder_in(tmp_path, "work"))
    keeper = np.arange(len(texts))
    keeper[found.row] = found.keeper
    truth = all_similar(*sets_of(texts), config.threshold)
    planted = truth[(truth[:, 1] >= 1200) & (truth[:, 0] == of[np.maximum(truth[:, 1] - 1200, 0)])]
    for pairs in (planted, truth):
        assert len(pairs) > 100 and np.mean(keeper[pairs[:, 0]] == keeper[pairs[:, 1]]) >= 0.995
    fellow = truth[keeper[truth[:, 0]] == keeper[truth[:, 1]]]
    assert not set(found.row.tolist()) - set(fellow.ravel().tolist())


def joined(sets: Sets, threshold: float, reach: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(pairs that joined, component of each) of one bucket."""
    bounds = np.concatenate([[0], np.cumsum([len(one) for one in sets])])
    count = len(sets)
    edges, sketches = np.empty((count, 2), np.uint32), np.empty((reach + 1, 64), np.uint64)
    used = kernels.join_buckets(
        np.arange(count), np.array([0, count]), np.concatenate(sets), bounds[:-1], bounds[1:], threshold,
        reach, np.uint64(7), np.arange(count), sketches, edges,
    )  # fmt: skip
    pairs = edges[:used].astype(np.int64)
    return pairs, components(count, pairs[:, 0], pairs[:, 1])


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(2, 60), st.sampled_from([0.3, 0.5, 0.8, 0.95]), st.integers(5, 300))
def test_a_bucket_is_joined_as_by_comparing_all_with_all(seed: int, count: int, threshold: float, size: int) -> None:
    random = np.random.default_rng(seed)
    base = random.integers(0, 2**64, (3, size), dtype=np.uint64)
    sets = []
    for _ in range(count):
        words = base[random.integers(3)].copy()
        changed = random.integers(size, size=int(random.integers(size)))
        words[changed] = random.integers(0, 2**64, len(changed), dtype=np.uint64)
        sets.append(np.unique(words[: random.integers(1, size + 1)]))
    truth = all_similar(np.concatenate(sets), np.concatenate([[0], np.cumsum([len(s) for s in sets])]), threshold)
    pairs, found = joined(sets, threshold, 100)
    assert found.tolist() == components(count, truth[:, 0], truth[:, 1]).tolist()
    assert {tuple(sorted(pair)) for pair in pairs.tolist()} <= set(map(tuple, truth.tolist()))
    few, _ = joined(sets, threshold, 4)
    assert {tuple(sorted(pair)) for pair in few.tolist()} <= set(map(tuple, truth.tolist()))


def test_in_a_bucket_beyond_reach_those_of_equal_rare_words_are_compared() -> None:
    random = np.random.default_rng(1)
    common = random.integers(0, 2**64, 150, dtype=np.uint64)
    rare = random.integers(0, 2**64, (3000, 50), dtype=np.uint64)
    sets = [np.unique(np.concatenate([common, own])) for own in rare]
    sets += [np.unique(np.concatenate([common, own[:40], own[:3] + np.uint64(1)])) for own in rare[:300]]
    _, found = joined(sets, 0.8, 30)
    assert np.mean(found[3000:] == np.arange(300)) > 0.7 and (found[:3000] == np.arange(3000)).all()


def test_many_texts_that_differ_in_one_word_leave_a_pair_less_than_texts() -> None:
    words = [f"w{i}" for i in range(200)]
    texts = [" ".join([*words[: i % 200], f"x{i}", *words[i % 200 + 1 :]]) for i in range(20_000)]
    sets, bounds = sets_of(texts)
    pairs, found = joined(np.split(sets, bounds[1:-1]), 0.8, 4096)
    assert len(pairs) == 19_999 and not found.any()


@pytest.mark.parametrize("ranges", [1, 4])
def test_no_step_holds_more_than_was_stated(tmp_path: Path, ranges: int) -> None:
    random = np.random.default_rng(0)
    count, size = 256_000, 64
    values = np.repeat(random.integers(1, 2**64, count // size, dtype=np.uint64), size)
    signatures = tables.write_partitions(pa.table({"b00": values}), tmp_path / "signatures", 4000)
    np.save(tmp_path / "alive.npy", np.ones(count, bool))
    np.save(tmp_path / "needed.npy", np.arange(count))
    np.save(tmp_path / "bounds.npy", np.arange(count + 1) * 3)
    np.repeat(values, 3).tofile(tmp_path / "sets.u64")
    stated = count * minhash._BYTES_PER_ROW / ranges * 1.05  # ranges are of hashes: nearly equal
    most, edges = [], 0
    for part in range(ranges):
        peak, found = traced(
            minhash._bucket_partition,
            pa.table({"band": [0], "range": [part]}),
            signatures=signatures,
            alive=tmp_path / "alive.npy",
            ranges=ranges,
        )
        most.append(peak)
        tables.write(found["buckets"], tmp_path / "buckets/part-00000.parquet")
        units = pa.table({"part": ["part-00000.parquet"]})
        peak, found = traced(minhash._compare_partition, units, scratch=tmp_path, threshold=0.8, reach=4096)
        most.append(peak - 4097 * kernels.MOST_WORDS * 8)
        edges += len(found["edges"])
    assert max(most) < stated, max(most) / count * ranges
    assert edges == count - count // size


def traced(work: Any, units: pa.Table, **fields: Any) -> tuple[int, dict[str, pa.Table]]:
    """(peak bytes of arrays in NumPy and Arrow, result)."""
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    found = work(units, **fields)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak + pa.total_allocated_bytes() - before, found


@pytest.fixture
def released(tmp_path: Path) -> tuple[Path, Part]:
    """The pass of an earlier release (its folder), and the part of the rows it kept: every other one."""
    texts, _ = templated(40, False, seed=5)
    part = parts_of(texts, tmp_path / "first", 100)[0]
    folder = folder_in(tmp_path, "pass")
    minhash.find(Rows([part]), minhash.MinHash(), a_run(tmp_path / "run"), folder)
    kept = pa.array([i % 2 == 0 for i in range(len(texts))])
    step = tmp_path / "steps/dedup.c-0"
    for name, path in (("samples", part.samples), ("measures", part.measures)):
        tables.write(pq.read_table(path).filter(kept), step / name / path.name)
    status = ["kept" if flag else "dropped" for flag in kept.to_pylist()]
    tables.write(pa.table({"status": status}), step / "verdicts" / part.samples.name)
    names = [step / "samples" / part.samples.name, step / "measures" / part.samples.name]
    return folder, Part(*names, earlier=True, signed=folder)


def signatures(part: Part, config: minhash.MinHash, work: Path) -> pa.Table:
    work.mkdir()
    return pq.read_table(
        minhash_signatures.sign_parts(Rows([part]), config, a_run(work / "run"), work, work / "scratch")[0]
    )


def test_texts_of_an_earlier_release_are_not_signed_again(tmp_path: Path, released: tuple[Path, Part]) -> None:
    _, part = released
    config = minhash.MinHash()
    anew = signatures(Part(part.samples, part.measures, earlier=True), config, tmp_path / "anew")
    tables.write(pq.read_table(part.samples, columns=["id"]), part.samples)  # no text is left that could be signed
    assert signatures(part, config, tmp_path / "again") == anew and len(anew) == 22


@pytest.mark.parametrize("change", ["settings", "removal", "rows"])
def test_signatures_that_do_not_fit_are_made_anew(tmp_path: Path, released: tuple[Path, Part], change: str) -> None:
    folder, part = released
    config = minhash.MinHash(ngram=4) if change == "settings" else minhash.MinHash()
    file = folder / "signatures" / part.samples.name
    if change == "removal":
        file.unlink()
    else:
        found = pq.read_table(file)
        wrong = pa.table({name: pa.array(np.zeros(len(found), np.uint64)) for name in found.column_names})
        tables.write(wrong.slice(0, len(found) - (change == "rows")), file)
    anew = signatures(Part(part.samples, part.measures, earlier=True), config, tmp_path / "anew")
    assert signatures(part, config, tmp_path / "again") == anew
    assert all(anew[name].to_numpy().all() for name in anew.column_names)
