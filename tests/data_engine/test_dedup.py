"""Duplicates: every near pair found and no other, whoever runs the partitions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine import sample as samples
from data_engine import tables
from data_engine.curation import Curation
from data_engine.dedup import exact, minhash, minhash_signatures, perceptual
from data_engine.dedup.components import components
from data_engine.dedup.hamming import near, near_pairs
from data_engine.dedup.rows import Part, Rows
from data_engine.recipe import Recipe
from data_engine.runners.partition import RunnerName
from data_engine.sample import Sample, document
from data_engine.step import Run
from data_engine.words import hash_words, shingles, text_buffers
from data_engine.words import tables as word_tables


def hashes(seed: int) -> npt.NDArray[np.uint64]:
    """Random hashes, with neighbours planted at distances 1 to 8 of some of them."""
    random = np.random.default_rng(seed)
    base = random.integers(0, 2**64, 60, dtype=np.uint64)
    flips = [sum(1 << int(bit) for bit in random.choice(64, 1 + i % 8, replace=False)) for i in range(30)]
    return np.concatenate([base, base[:30] ^ np.array(flips, dtype=np.uint64)])


def brute(values: npt.NDArray[np.uint64], radius: int) -> list[list[int]]:
    close = np.triu(np.bitwise_count(values[:, None] ^ values[None]) <= radius, 1)
    found: list[list[int]] = np.argwhere(close).tolist()
    return found


@settings(max_examples=50)
@given(seed=st.integers(0, 1000), radius=st.integers(0, 15))
def test_all_near_pairs_are_found(seed: int, radius: int) -> None:
    assert near_pairs(hashes(seed), radius).tolist() == brute(hashes(seed), radius)


def test_two_sets_are_searched_as_one() -> None:
    ours, theirs = hashes(1)[:50], hashes(1)[50:]
    distance = np.bitwise_count(ours[:, None] ^ theirs[None])
    assert near(ours, theirs, 8).tolist() == np.argwhere(distance <= 8).tolist()


def test_components_by_brute_force() -> None:
    pairs = np.array([(5, 2), (2, 9), (7, 8), (1, 1)])
    assert components(10, pairs[:, 0], pairs[:, 1]).tolist() == [0, 1, 2, 3, 4, 2, 6, 7, 7, 2]


def a_run(out: Path, runner: RunnerName = "local") -> Curation:
    source = {"format": "text", "path": ".", "modality": "text", "task": "text", "licence": "CC0"}
    return Curation(Recipe.model_validate({"corpus": "c", "sources": [source]}), Run(out), runner)


MEASURES = pa.schema(
    [("id", pa.string()), ("content_key", pa.binary(16)), ("media_keys", pa.list_(pa.string()))]
    + [("media_phash", pa.list_(pa.uint64()))]
)


def rows_of(out: Path, measured: Sequence[dict[str, Any]], texts: Sequence[str], size: int) -> Rows:
    """Rows in parts of `size`, as the steps before leave them."""
    found = [Sample("c", "text", "text", (document(words),), origin=str(i)) for i, words in enumerate(texts)]
    parts = zip(
        tables.write_partitions(samples.to_table(found), out / "samples", size),
        tables.write_partitions(pa.Table.from_pylist(list(measured), MEASURES), out / "measures", size),
        strict=True,
    )
    return Rows([Part(first, second) for first, second in parts])


def measured() -> list[dict[str, Any]]:
    def key(name: str) -> bytes:
        return name.rjust(16).encode()

    rows: list[dict[str, Any]] = [
        {
            "id": f"s{i:02d}",
            "content_key": key(f"c{i % 7}"),
            "media_keys": [f"m{i % 9}"],
            "media_phash": [0b1111 << (i % 9) * 6],
        }
        for i in range(20)
    ]
    rows += [{"id": "s03", "content_key": key("c3"), "media_keys": ["m3", "x"], "media_phash": [None, 0b111]}]
    rows += [{"id": "text", "content_key": key("t"), "media_keys": [], "media_phash": []}]
    rows += [{"id": "near", "content_key": key("n"), "media_keys": ["m0b"], "media_phash": [0b0111]}]
    return rows


def test_exact_keeps_the_first_of_each(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, measured(), ["w"] * 23, 6)
    found = exact.find(rows, exact.Exact(), a_run(tmp_path), tmp_path)
    assert dict(zip(found.row.tolist(), found.keeper.tolist(), strict=True)) == {
        **{i: i % 7 for i in range(7, 20)},
        20: 3,
    }
    assert rows.ids(found.keeper).to_pylist()[:3] == ["s00", "s01", "s02"]


def test_exact_looks_only_at_what_is_still_kept(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, measured(), ["w"] * 23, 6).without([np.array([0, 3])])
    found = exact.find(rows, exact.Exact(), a_run(tmp_path), tmp_path)
    assert 7 not in found.row and dict(zip(found.row.tolist(), found.keeper.tolist(), strict=True))[14] == 7


def test_perceptual_keeps_all_samples_of_the_kept_picture_and_drops_if_any_matches(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, measured(), ["w"] * 23, 6)
    found = perceptual.find(rows, perceptual.Perceptual(max_hamming=1), a_run(tmp_path), tmp_path)
    assert found.row.tolist() == [20, 22] and found.keeper.tolist() == [0, 0]


def test_a_dropped_sample_stands_for_nothing(tmp_path: Path) -> None:
    """Rows show X; X' and Y; Y': the second goes for its X', so that the third stays: else Y would be lost."""
    near, other = 0b1, 0xFFFF0000
    shown = [{"x": 0}, {"x2": near, "y": other}, {"y2": other | near}, {"y": other}, {"y2": other | near, "x": 0}]
    rows = [
        {"id": str(i), "content_key": bytes(16), "media_keys": list(row), "media_phash": list(row.values())}
        for i, row in enumerate(shown)
    ]
    found = perceptual.find(
        rows_of(tmp_path, rows, ["w"] * len(rows), 2), perceptual.Perceptual(max_hamming=1), a_run(tmp_path), tmp_path
    )
    assert (found.row.tolist(), found.keeper.tolist()) == ([1, 3], [0, 2])


@given(st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=3, unique=True), max_size=12), st.integers(0, 4))
def test_rows_go_as_one_by_one_they_would(rows: list[list[int]], first_new: int) -> None:
    """Against a plain walk: twelve pictures, of which each group of three is alike."""
    known: list[int] = []
    picture = [known.index(p) if p in known else (known.append(p), len(known) - 1)[1] for row in rows for p in row]
    component = np.array([next(j for j, q in enumerate(known) if q // 3 == p // 3) for p in known], np.int64)
    row = np.repeat(np.arange(len(rows)), [len(row) for row in rows]).astype(np.int64)
    pictures = perceptual.Shown(row, np.array(picture, np.int64), None, None, None)  # type: ignore[arg-type]
    found = perceptual.drops_of(pictures, component, first_new)
    stands: dict[int, tuple[int, int]] = {}
    expected = {}
    for number, shown in enumerate(rows):
        twins = [stands[p // 3][1] for p in shown if p // 3 in stands and stands[p // 3][0] != p]
        if twins and number >= first_new:
            expected[number] = twins[0]
        else:
            for p in shown:
                stands.setdefault(p // 3, (p, number))
    assert dict(zip(found.row.tolist(), found.keeper.tolist(), strict=True)) == expected


def test_the_jaccard_rule_counts_shared_set_bits() -> None:
    values = np.array([2**40 - 1, 2**40 - 2, 2**40 + 2**41 - 1, 0b11, 0b111], np.uint64)
    kept = perceptual.keepers(values, perceptual.Perceptual(max_hamming=4, min_jaccard=0.95))
    assert kept.tolist() == [0, 0, 0, 3, 4]
    with pytest.raises(ValueError, match="raise it"):
        perceptual.Perceptual(max_hamming=2, min_jaccard=0.95)


def words(text: str) -> list[int]:
    data, offsets = text_buffers(pa.array([text]))
    out = np.empty(len(data) + 1, np.uint64)
    return out[: hash_words(data, 0, int(offsets[1]), *word_tables(), out)].tolist()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Cat, sat!", "the cat sat"),
        ("體育館與圖書館", "体育馆与图书馆"),
        ("ＡＢＣ１２３", "abc123"),
        ("café", "CAFÉ"),
        ("ｶﾅ", "カナ"),
    ],
)
def test_one_text_written_in_several_ways_has_one_sequence_of_words(one: str, other: str) -> None:
    assert words(one) == words(other)


def test_words_are_runs_of_letters_and_single_han_characters() -> None:
    assert [len(words(text)) for text in ("a b", "两个字 ab", "", " \n", "don't", "คน", "𠀀𠀁x")] == [
        2,
        4,
        0,
        0,
        2,
        2,
        3,
    ]


def jaccard(one: str, other: str, n: int = 5) -> float:
    sets = []
    for text in (one, other):
        hashed = np.array(words(text), np.uint64)
        out = np.empty(len(hashed) + 1, np.uint64)
        sets.append(set(out[: shingles(hashed, len(hashed), n, out)].tolist()))
    return len(sets[0] & sets[1]) / max(1, len(sets[0] | sets[1]))


def planted(seed: int, chinese: bool) -> list[str]:
    """Texts of random words (Han characters), and copies with a few words changed."""
    random = np.random.default_rng(seed)
    letters = [chr(0x4E00 + i) for i in range(3000)] if chinese else [f"w{i}" for i in range(3000)]
    glue = "" if chinese else " "
    base = [list(random.choice(letters, int(random.integers(60, 200)))) for _ in range(150)]
    edited = [list(text) for text in base[:100]]
    for text in edited:
        for _ in range(int(random.integers(1, 5))):
            text[int(random.integers(len(text)))] = str(random.choice(letters))
    return [glue.join(text) for text in base + edited]


@pytest.mark.parametrize("chinese", [False, True])
def test_near_texts_are_found_and_every_member_is_near_another(tmp_path: Path, chinese: bool) -> None:
    texts = planted(3, chinese)
    rows = rows_of(tmp_path, [{"id": str(i), "media_keys": []} for i in range(len(texts))], texts, 64)
    found = minhash.find(rows, minhash.MinHash(), a_run(tmp_path / "run"), _folder(tmp_path))
    truth = {(i, j) for i in range(len(texts)) for j in range(i + 1, len(texts)) if jaccard(texts[i], texts[j]) >= 0.8}
    keeper = dict(zip(found.row.tolist(), found.keeper.tolist(), strict=True))
    assert 20 < len(truth) <= 100
    assert keeper == {j: i for i, j in truth}


def _folder(path: Path) -> Path:
    folder = path / "work"
    folder.mkdir(parents=True)
    return folder


def test_texts_beside_different_pictures_are_not_duplicates(tmp_path: Path) -> None:
    text = "what is the colour of the large shape in the middle of this picture please"
    keys = [["a"], ["b"], ["a"], []]
    rows = rows_of(tmp_path, [{"id": str(i), "media_keys": key} for i, key in enumerate(keys)], [text] * 4, 2)
    found = minhash.find(rows, minhash.MinHash(), a_run(tmp_path / "run"), _folder(tmp_path))
    assert (found.row.tolist(), found.keeper.tolist()) == ([2], [0])


def test_a_corpus_without_near_pairs_loses_nothing(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, [{"id": str(i), "media_keys": []} for i in range(3)], ["one two", "three", ""], 2)
    assert len(minhash.find(rows, minhash.MinHash(), a_run(tmp_path / "run"), _folder(tmp_path)).row) == 0


def test_less_memory_takes_more_ranges_and_finds_the_same(tmp_path: Path) -> None:
    texts = planted(5, False)
    rows = rows_of(tmp_path, [{"id": str(i), "media_keys": []} for i in range(len(texts))], texts, 100)
    assert minhash.memory_plan(10_000_000, 64) == (10, 1, 62) and minhash.memory_plan(1, 64) == (1, 5, 1)
    assert minhash.memory_plan(500_000, 2048) == (1, 2, 62)
    found = []
    for ranges in (1, 7):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(minhash, "memory_plan", lambda rows, memory, ranges=ranges: (ranges, 1, 1))
            work = _folder(tmp_path / str(ranges))
            found.append(minhash.find(rows, minhash.MinHash(), a_run(work / "run"), work))
    assert found[0].row.tolist() == found[1].row.tolist() and len(found[0].row) > 20


def test_the_layout_meets_its_recall() -> None:
    assert minhash.choose_layout(0.8, 128, 0.998) == (21, 6) and minhash.MinHash().layout == (25, 5)
    bands, rows = minhash.choose_layout(0.5, 128, 0.998)
    assert 1 - (1 - 0.5**rows) ** bands >= 0.998
    with pytest.raises(ValueError, match="cannot be met"):
        minhash.MinHash(threshold=0.01, permutations=16)


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_signatures_share_a_bucket_as_often_as_the_theory_says(threshold: float) -> None:
    """Pairs of sets of 120 single words that are alike by exactly the threshold, or less, by 1 - (1 - s^rows)^bands."""
    config = minhash.MinHash(threshold=threshold, ngram=1)
    bands, rows = config.layout
    for share in (threshold, threshold - 0.3):
        common, apart, pairs = round(120 * share), round(60 * (1 - share)), 3000
        texts = [
            " ".join(
                f"w{pair}x{i}" for i in [*range(common), *range(common + side * apart, common + side * apart + apart)]
            )
            for pair in range(pairs)
            for side in range(2)
        ]
        signed = minhash_signatures.sign(pa.array(texts), np.zeros(len(texts), np.uint64), config)
        found = (signed[::2] == signed[1::2]).any(axis=1).mean()
        expected = 1 - (1 - share**rows) ** bands
        assert found == pytest.approx(expected, abs=4 * (expected * (1 - expected) / pairs) ** 0.5 + 1e-3)


@pytest.mark.parametrize("runner", ["spark", "ray"])
@pytest.mark.usefixtures("spark", "ray")
def test_every_runner_leaves_the_same_bytes(tmp_path: Path, runner: RunnerName) -> None:
    texts = planted(7, True)
    rows = rows_of(tmp_path, [{"id": str(i), "media_keys": []} for i in range(len(texts))], texts, 80)
    outputs = []
    for name in ("local", runner):
        work = _folder(tmp_path / name)
        minhash.find(rows, minhash.MinHash(), a_run(work / "run", name), work)  # type: ignore[arg-type]
        files = sorted(file for file in work.rglob("*") if file.is_file())
        outputs.append({str(file.relative_to(work)): file.read_bytes() for file in files})
    assert outputs[0] == outputs[1] and any("edges" in name for name in outputs[0])
