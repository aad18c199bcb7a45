"""Copies, pieces and re-encodings of real clips are held by the longer clip; nothing unrelated is."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from data_engine import frames, tables, video
from data_engine.dedup import video as dedup
from data_engine.dedup.rows import Part, Rows
from data_engine.dedup.video import Video
from data_engine.seen_clips import CLIP
from tests import films
from tests.films import Pixels

Hashes = list[int]


def hashes(pictures: list[Pixels], every: int = 1) -> Hashes:
    return [frames.frame_hash(picture) for picture in pictures[::every]]


def fitted(picture: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


@pytest.fixture(scope="module")
def scenes(corpora: Any) -> dict[str, list[Pixels]]:
    """16 s each of a film with cuts and of a street under a standing camera, twelve frames a second."""
    film, street = corpora / "video/bbb_5min.mp4", corpora / "video/vtest.avi"
    return {
        "film": films.pixels(films.Piece(film, 60, 192), 12, (320, 180)),
        "street": films.pixels(films.Piece(street, 0, 192), 12, (320, 240)),
    }


def changed(scene: list[Pixels], folder: Path, name: str) -> dict[str, Hashes]:
    """Copies as people make them; two frames a second of each are hashed."""
    height, width = scene[0].shape[:2]
    films.write(scene, folder / f"{name}.mp4", 12, "-crf", "36")
    coded = films.read_all(folder / f"{name}.mp4", 12, 320)
    margin = height // 30
    return {
        "coded": hashes(coded, 6),
        "smaller": hashes([fitted(picture, width // 2, height // 2) for picture in coded], 6),
        "trimmed": hashes(coded[30:150], 6),
        "a quarter second later": hashes(coded[3:], 6),
        "another rate": [frames.frame_hash(coded[min(len(coded) - 1, round(at * 12.5 / 2))]) for at in range(30)],
        "bars": hashes([np.pad(picture, ((40, 40), (0, 0), (0, 0))) for picture in coded], 6),
        "borders cropped": hashes([picture[margin:-margin, margin:-margin] for picture in coded], 6),
    }


def table(clips: list[tuple[str, float | None, float | None, Hashes]]) -> pa.Table:
    lists = [[{"key": key, "start": start, "end": end, "hashes": seen}] for key, start, end, seen in clips]
    ids = [f"s{place}" for place in range(len(clips))]
    return pa.table({"id": ids, "clips": pa.array(lists, pa.list_(CLIP))})


def dropped(
    tmp_path: Path, *parts: list[tuple[str, float | None, float | None, Hashes]], earlier: int = 0
) -> dict[int, int]:
    found = []
    for number, clips in enumerate(parts):
        path = tmp_path / f"part-{number}.parquet"
        tables.write(table(clips), path)
        found.append(Part(path, path, earlier=number < earlier))
    this: Any = None
    drops = dedup.find(Rows(found), Video(), this, tmp_path)
    return dict(zip(drops.row.tolist(), drops.keeper.tolist(), strict=True))


@pytest.mark.parametrize("name", ["film", "street"])
def test_every_copy_is_held_by_the_longer_clip(scenes: Any, tmp_path: Path, name: str) -> None:
    copies = changed(scenes[name], tmp_path, name)
    clips = [(key, None, None, seen) for key, seen in copies.items()]
    clips.append(("whole", None, None, hashes(scenes[name], 6) + hashes(scenes["film"][::-1], 6)))
    assert dropped(tmp_path, clips) == dict.fromkeys(range(len(copies)), len(copies))


def test_nothing_unrelated_is_dropped(corpora: Any, scenes: Any, tmp_path: Path) -> None:
    """Pieces of one film at other times, other moments of one street, and clips of other places.

    One pair is nobody's plant: the trailer shows the whole of bigbuckbunny.mp4 from its 24th second on.
    """
    film = hashes(films.read_all(films.trailer(), 2, 224))
    street = hashes(films.read_all(corpora / "video/vtest.avi", 2, 224))
    clips = [(f"film{at}", None, None, film[at : at + 20]) for at in range(0, 100, 20)]
    clips += [(f"street{at}", None, None, street[at : at + 20]) for at in range(0, 140, 20)]
    for name in ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4", "cityCC0.mpg"):
        clips.append((name, None, None, hashes(films.read_all(films.fetched(name), 2, 224))))
    clips.append(("scene", None, None, hashes(scenes["film"], 6)))
    names = [name for name, *_ in clips]
    assert dropped(tmp_path, clips) == {names.index("bigbuckbunny.mp4"): names.index("film40")}


def test_spans_of_one_film_are_compared_by_their_times(tmp_path: Path) -> None:
    same = [7] * 20  # a standing picture: hashes tell nothing apart
    clips = [
        ("a", 0.0, 10.0, same),
        ("a", 0.5, 10.0, same),
        ("a", 5.0, 15.0, same),
        ("a", 30.0, 40.0, same),
        ("a", 0.0, 10.0, same),
    ]
    assert dropped(tmp_path, [(k, s, e, seen[: int(2 * (e - s))]) for k, s, e, seen in clips]) == {1: 0}
    whole = [("a", 3.0, 9.0, same[:12]), ("a", None, None, same * 4)]
    assert dropped(tmp_path, whole) == {0: 1}


def test_plain_and_short_clips_are_left_alone(tmp_path: Path) -> None:
    black, short = [0] * 30, [11, 12]
    assert (
        dropped(
            tmp_path,
            [("a", None, None, black), ("b", None, None, black), ("c", None, None, short), ("d", None, None, short)],
        )
        == {}
    )


def test_an_earlier_release_wins_and_loses_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    long = rng.integers(1, 2**63, 40).tolist()
    assert dropped(tmp_path, [("old", None, None, long[:20])], [("new", None, None, long[2:20])], earlier=1) == {1: 0}
    assert dropped(tmp_path, [("old", None, None, long[:20])], [("new", None, None, long)], earlier=1) == {}
    assert dropped(tmp_path, [("short", None, None, long[:20])], [("long", None, None, long)]) == {0: 1}


def test_all_pairs_as_by_brute_force() -> None:
    """The index misses no pair: against every pair of clips, and every offset, looked at in plain Python."""
    rng = np.random.default_rng(1)
    films_ = [rng.integers(1, 2**63, 30, dtype=np.uint64) for _ in range(12)]
    clips = []
    for number in range(80):
        film, start = films_[number % 12], int(rng.integers(0, 20))
        seen = film[start : start + int(rng.integers(4, 14))].copy()
        for at in range(len(seen)):
            for bit in rng.choice(64, int(rng.integers(0, 10)), replace=False):
                seen[at] ^= np.uint64(1 << int(bit))
        clips.append(seen)
    count = np.arange(len(clips), dtype=np.int64)
    start_ = np.concatenate([[0], np.cumsum([len(seen) for seen in clips])]).astype(np.int64)
    whole = dedup.Clips(count, np.zeros(80), np.full(80, np.inf), np.concatenate(clips), start_, count, count)
    found = set(zip(*(side.tolist() for side in dedup.containments(whole, Video())), strict=True))
    assert found == {(a, b) for a in range(80) for b in range(80) if a != b and _held(clips[a], clips[b])}
    assert len(found) >= 40


def _held(a: Any, b: Any) -> bool:
    rules, step = Video(), max(_step(a), _step(b))
    for offset in range(-len(a), len(b)):
        pairs = [(int(a[i]), int(b[i + offset])) for i in range(len(a)) if 0 <= i + offset < len(b)]
        apart = [(x ^ y).bit_count() for x, y in pairs]
        if len(pairs) >= max(rules.min_cover * len(a) - 1e-9, rules.min_frames):
            close = sum(value <= rules.max_hamming for value in apart)
            if close >= rules.min_share * len(apart) and sum(apart) <= (2.5 + 0.8 * step) * len(apart):
                return True
    return False


def _step(a: Any) -> float:
    return float(np.mean([(int(x) ^ int(y)).bit_count() for x, y in zip(a[:-1], a[1:], strict=True)]))


def test_hashes_are_of_what_lies_within_black_bars(scenes: Any) -> None:
    picture = scenes["film"][40]
    barred = np.pad(picture, ((30, 30), (50, 50), (0, 0)))
    assert frames.frame_hash(barred) == frames.frame_hash(picture) != 0
    assert frames.frame_hash(np.full((90, 160, 3), 200, np.uint8)) == 0


def test_kept_frames_are_read_by_span(scenes: Any, tmp_path: Path) -> None:
    shown = scenes["film"] * 2  # more than two groups of frames
    count = frames.write(iter(shown), "k", 12.0, tmp_path / "k.parquet")
    seen = frames.signals(tmp_path / "k.parquet")
    assert count == len(shown) == len(seen.time) and np.isnan(seen.motion[0])
    every = frames.jpegs(tmp_path / "k.parquet", None, None)
    for start, end in ((0.0, 1.0), (10.0, 11.5), (31.0, None), (5.04, 5.05)):
        chosen = [at for at in range(count) if start - 1e-6 <= at / 12 < (end or 99) - 1e-6]
        assert frames.jpegs(tmp_path / "k.parquet", start, end) == [every[at] for at in chosen]
        assert len(seen.between(start, end).hash) == len(chosen)
    assert frames.jpeg_at(tmp_path / "k.parquet", 10.7) == every[128]


def test_probing_a_film_keeps_few_frames_in_memory(corpora: Any, tmp_path: Path) -> None:
    path = corpora / "video/vtest.avi"
    shown = video.sample_frames(path, video.probe(path), fps=2.0, max_side=112)
    assert frames.write(shown, "k", 2.0, tmp_path / "k.parquet") == 159
    assert frames.pq.ParquetFile(tmp_path / "k.parquet").num_row_groups == 2
