"""Records what a mixed stream's samples cost, so that packing and balance are judged on the same ones everywhere.

    python tools/record_mix_trace.py

Writes benchmarks/mix_trace.parquet: 20,000 samples in stream order, 24 % video, 50 % image, 26 % text by tokens
(`data_engine.mixture`), each with its modality, tokens, visual tokens, pictures, squared patches (the sum over
pictures of patches squared) and text tokens, at the visual budget of preset `8b`. No pixel and no word is kept.

Recorded, from the demo's corpora and the tests' films: the pixel sizes of pictures and PDF pages; words of captions,
questions, pages, documents, programs and dialogues, counted by a byte-level BPE of 16,384 tokens trained on just these
texts; which frames of the films are slow and which fast, labelled anew for each span.
Chosen: PDF pages are rendered at 144 dots an inch, alone and in runs of 2 to 16, log-uniformly; a picture of 64 x 64
carries all its questions and at most 1,000 of them take part; manuals are cut at headings of each of three depths;
spans of films are drawn log-uniformly from 2 seconds to the whole film, at 2 frames a second, with a caption of a real
text's length; samples come again (reshuffled) until there are 20,000.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pypdfium2
from PIL import Image
from tokenizers import Tokenizer

from data_engine.demo_corpora import default_cache, fetch
from data_engine.mixture import Pool, Schedule, achieved
from data_engine.recipe import Mixture
from data_engine.shard_index import number_sources
from model import visual_tokens as vt
from model.decoding import probe, sample
from model.slow_fast import compare_size, label_frames
from model.tokenizer import train_bpe
from tests import films

SHARES = {"video": 0.24, "image": 0.50, "text": 0.26}
SAMPLES, VOCABULARY = 20_000, 16_384
SPANS, SMALL_PICTURES, LONGEST_RUN, DOTS = 60, 1_000, 16, 144
BUDGET = vt.visual_budget("8b")
HEADINGS = (r"(?:Chapter\xa0\d+\.|第\xa0\d+\xa0章)", r"(?:\d+\.){2}", r"(?:\d+\.){3}")
TARGET = Path(__file__).parent.parent / "benchmarks/mix_trace.parquet"


@dataclass(frozen=True, slots=True)
class Shape:
    """A sample as its words (media as one marker) and the sizes of its pictures."""

    modality: str
    text: str
    sizes: Sequence[vt.Size] = ()
    marks: int = 0
    """Tokens around pictures: `<|vision_start|>` and its like, and frames' times."""


def main() -> None:
    fetch()
    corpora = default_cache()
    texts = [*documents(corpora), *programs(corpora), *dialogues(corpora)]
    shapes = [Shape("text", text) for text in texts]
    shapes += [*captioned(corpora), *questioned(corpora), *photographs(corpora), *pages(corpora)]
    shapes += list(filmed([text for text in texts if len(text) < 2_000]))
    tokenizer = trained([shape.text for shape in shapes])
    rows = [measured(shape, tokenizer) for shape in shapes]
    modality = [row["modality"] for row in rows]
    sources, source = number_sources(pa.table({"modality": modality, "corpus": modality}))
    pool = Pool(sources, source, np.array([row["tokens"] for row in rows], np.int32))
    mixture = Mixture(shares=SHARES, max_repeats=1_000)
    order = next(Schedule(pool, mixture, seed=0, epoch=0).chunks(0, SAMPLES))
    table = pa.Table.from_pylist([rows[index] for index in order])
    pq.write_table(table, TARGET, compression="zstd", compression_level=19)
    tokens, share = int(pool.tokens[order].sum()), achieved(pool, order)
    print(f"{len(order)} samples ({len(np.unique(order))} different), {tokens:,} tokens, shares {share}: {TARGET}")


def trained(texts: Sequence[str]) -> Tokenizer:
    with TemporaryDirectory() as folder:
        train_bpe(texts, VOCABULARY, Path(folder))
        return Tokenizer.from_file(f"{folder}/tokenizer.json")


def measured(shape: Shape, tokenizer: Tokenizer) -> dict[str, int | str]:
    visual = [vt.num_tokens(size) for size in shape.sizes]
    text = len(tokenizer.encode(shape.text, add_special_tokens=False).ids) + shape.marks
    return {
        "modality": shape.modality,
        "tokens": text + sum(visual),
        "visual_tokens": sum(visual),
        "pictures": len(visual),
        "squared_patches": sum((BUDGET.merge**2 * count) ** 2 for count in visual),
        "text_tokens": text,
    }


def chat(turns: Sequence[tuple[str, str]]) -> str:
    return "".join(f"{vt.IM_START}{role}\n{text}{vt.IM_END}\n" for role, text in turns)


# words


def documents(corpora: Path) -> Iterator[str]:
    """Sections of both manuals at each depth of heading, and poems, sayings and riddles."""
    for path in sorted((corpora / "text").rglob("*.txt")):
        text = path.read_text(encoding="utf-8")
        for heading in HEADINGS:
            yield from _long(re.split(rf"(?m)^(?={heading}\xa0)", text)[1:])
    for path in sorted((corpora / "writing/texts").rglob("*.txt")):
        yield from _long(re.split(r"(?m)^%$", path.read_text(encoding="utf-8")))


def _long(sections: Sequence[str]) -> list[str]:
    """Without what is hardly a line, as in tables of contents."""
    return [section.strip() + vt.END_OF_TEXT for section in sections if len(section) > 100]


def programs(corpora: Path) -> Iterator[str]:
    for path in sorted((corpora / "writing/code").rglob("*")):
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            if len(text) > 100:
                yield text + vt.END_OF_TEXT


def dialogues(corpora: Path) -> Iterator[str]:
    for name in ("champ/champ.jsonl", "easy_vqa_words/train.jsonl"):
        for line in (corpora / name).read_text(encoding="utf-8").splitlines():
            turns = json.loads(line)["conversations"]
            yield chat([("user" if turn["from"] == "human" else "assistant", turn["value"]) for turn in turns])


# pictures


def pictured(sizes: Sequence[vt.Size], turns: Sequence[tuple[str, str]]) -> Shape:
    """A chat about pictures of these original (height, width)."""
    return Shape("image", chat(turns), [vt.image_size(*size, BUDGET) for size in sizes], marks=2 * len(sizes))


def size_of(path: Path) -> vt.Size:
    with Image.open(path) as image:
        return image.height, image.width


def captioned(corpora: Path) -> Iterator[Shape]:
    """Stamps, once with the English caption and once with the Chinese."""
    for path in sorted((corpora / "stamps").rglob("*.png")):
        caption = path.with_suffix(".txt")
        if caption.exists():
            first, *others = caption.read_text(encoding="utf-8").splitlines()
            chinese = [line.partition("=")[2] for line in others if line.startswith("zh_CN.utf8=")]
            for text in [first, *chinese]:
                yield pictured([size_of(path)], [("user", "Describe the picture."), ("assistant", text)])


def questioned(corpora: Path) -> Iterator[Shape]:
    """Pictures of shapes, each with all of its questions."""
    turns: dict[str, list[tuple[str, str]]] = {}
    for line in (corpora / "easy_vqa/train.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        question, answer = (turn["value"].removeprefix("<image>\n") for turn in row["conversations"])
        turns.setdefault(row["image"], []).extend([("user", question), ("assistant", answer)])
    for name in list(turns)[:SMALL_PICTURES]:
        yield pictured([size_of(corpora / "easy_vqa" / name)], turns[name])


def photographs(corpora: Path) -> Iterator[Shape]:
    """Photographs with the words of their file names."""
    for path in sorted([*(corpora / "scene_text").rglob("*"), *(corpora / "writing/backgrounds").rglob("*.jpg")]):
        if path.suffix.lower() in {".jpg", ".png", ".jpeg"}:
            words = path.stem.replace("_", " ")
            yield pictured([size_of(path)], [("user", "What is to be seen?"), ("assistant", words)])


def pages(corpora: Path) -> Iterator[Shape]:
    """Pages of PDFs with the words of their text layer, alone and in runs."""
    random = np.random.default_rng(0)
    for path in sorted((corpora / "manuals").glob("*.pdf")):
        found = [_page(page) for page in pypdfium2.PdfDocument(path)]
        starts = [(place, 1) for place in range(len(found))]
        starts += [(place, _drawn(random, 2, LONGEST_RUN)) for place in range(0, len(found), 2)]
        for start, count in starts:
            run = found[start : start + count]
            yield pictured([size for size, _ in run], [("user", "Read."), ("assistant", "\n".join(t for _, t in run))])


def _page(page: pypdfium2.PdfPage) -> tuple[vt.Size, str]:
    width, height = page.get_size()
    size = round(height * DOTS / 72), round(width * DOTS / 72)
    return size, page.get_textpage().get_text_bounded()


# films


def filmed(captions: Sequence[str]) -> Iterator[Shape]:
    """Spans of films, each labelled from its own first frame on, with a caption as long as some real text."""
    random = np.random.default_rng(0)
    names = ("bigbuckbunny.mp4", "cityCC0.mpg")
    paths = [
        films.film(),
        films.street(),
        films.trailer(),
        films.cyclists(),
        films.caller(),
        *map(films.fetched, names),
    ]
    for path in paths:
        info = probe(path)
        size = compare_size(info.height, info.width, BUDGET)
        frames = list(sample(path, info, BUDGET.fps, size, quick=True))
        for _ in range(max(1, SPANS * len(frames) // 300)):
            length = _drawn(random, min(4, len(frames)), len(frames))
            start = int(random.integers(0, len(frames) - length + 1))
            chosen = frames[start : start + length]
            is_slow = [label.is_slow for label in label_frames([frame.pixels for frame in chosen], BUDGET)]
            plan = vt.plan_video(is_slow, info.height, info.width, BUDGET)
            times = [frame.time - chosen[0].time for frame in chosen]
            caption = captions[int(random.integers(len(captions)))].removesuffix(vt.END_OF_TEXT)
            turns = [("user", "Tell what happens."), ("assistant", caption)]
            yield Shape("video", chat(turns), plan.sizes, vt.video_text_tokens(times, is_slow))


def _drawn(random: np.random.Generator, low: int, high: int) -> int:
    """A whole number, log-uniform."""
    return round(float(np.exp(random.uniform(np.log(low), np.log(high)))))


if __name__ == "__main__":
    main()
