"""Answers of which it is known whether they are right: shapes found in easy-vqa's pictures by their pixels, texts as
the engine renders them, charts drawn here, counts and times; near-misses lie just beyond what is allowed.
"""

import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from data_engine.grounding import normalise
from data_engine.synthesis.texts import nonsense

Sort = Literal["right", "near", "wrong"]
Corners = tuple[float, float, float, float]
SIZE = (64, 64)  # of easy-vqa's pictures


@dataclass(frozen=True, slots=True)
class Planted:
    """A truth as JSON, a reply, and what it is; `near` is wrong as well, by the least that is wrong."""

    truth: Mapping[str, Any]
    reply: str
    sort: Sort


def phrased(rng: random.Random, answer: str, decoy: str, bare: bool = True) -> str:
    """An answer in the words of a reply; some think aloud of another first."""
    forms = [
        f"<think>Is it {decoy}? No.</think><answer>{answer}</answer>", f"<answer>\\boxed{{{answer}}}</answer>",
        f"Answer: {answer}", f"**Answer:** {answer}", f"Let me look.\nThe answer is {answer}.", f"答案是{answer}。",
        f"<think>First {decoy}, then {answer}.</think>\nFinal answer: {answer}", f"\\boxed{{{answer}}}",
        f"<analysis>Hard.</analysis><think>{decoy}</think><answer>{answer}</answer>",
    ]  # fmt: skip
    return rng.choice([*forms, answer, f" {answer}\n"] if bare else forms)


def unfinished(reply: str) -> str:
    """A reply as thoughts that never end: no answer, whatever they hold."""
    return "<think>" + re.sub("</?(?:think|analysis)>", " ", reply)


def shape_box(picture: Path) -> Corners:
    """The box around the one shape of an easy-vqa picture: what differs from the background, its commonest colour."""
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    rows, columns = np.nonzero(np.abs(pixels - colours[counts.argmax()]).sum(axis=2) > 60)
    return (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))


def narrowed(box: Corners, overlap: float) -> Corners:
    """A box within `box` that overlaps it by exactly this much, the right side moved."""
    left, top, right, bottom = box
    return (left, top, left + (right - left) * overlap, bottom)


def boxes(rng: random.Random, pictures: list[Path]) -> Iterator[Planted]:
    """One to three shapes: alone, or pictures side by side in one frame of pixels."""
    while True:
        found = [shape_box(picture) for picture in rng.sample(pictures, rng.randint(1, 3))]
        truth = [tuple(v + 64 * n * (i % 2 == 0) for i, v in enumerate(box)) for n, box in enumerate(found)]
        least, size = rng.choice((0.5, 0.7, 0.75)), (64 * len(found), 64)
        data = {"kind": "box", "boxes": truth, "min_iou": least, "size": size}
        sort: Sort = rng.choice(("right", "near", "wrong"))
        said = [narrowed(box, rng.uniform(least + 0.001, 1)) for box in truth]
        if sort == "near":
            said = [narrowed(truth[0], least - 0.004), *said[1:]]
        elif sort == "wrong":
            far: Corners = (size[0] - 4, 0, size[0], 4)
            said = rng.choice(([*said, far], [far, *said[1:]], said[:-1] if len(said) > 1 else [far]))
        rng.shuffle(said)
        yield Planted(data, phrased(rng, box_text(rng, said, size, sort), "[1, 1, 2, 2]"), sort)


def box_text(rng: random.Random, said: list[Corners], size: tuple[int, int], sort: Sort) -> str:
    """In brackets, as JSON, as corners; as Keyeforge's marks only where bins cannot change what is right."""
    exact = [[round(value, 4) for value in box] for box in said]
    forms = [str(exact), ", ".join(map(str, exact)), "; ".join(f"({a}, {b}), ({c}, {d})" for a, b, c, d in exact)]
    forms.append(str([{"bbox_2d": box, "label": "shape"} for box in exact]).replace("'", '"'))
    if sort == "wrong":
        bins = [[int(v) for corner in (box[:2], box[2:]) for v in normalise(corner, *size)] for box in said]
        forms.append(f"<|box_start|>{bins}<|box_end|>")
    return rng.choice(forms)


def points(rng: random.Random, pictures: list[Path]) -> Iterator[Planted]:
    """In a shape's box or in a triangle; near-misses are one pixel outside."""
    while True:
        left, top, right, bottom = shape_box(rng.choice(pictures))
        sort: Sort = rng.choice(("right", "near", "wrong"))
        inner = (rng.randint(int(left), int(right)), rng.randint(int(top), int(bottom)))
        near = rng.choice(((left - 1, inner[1]), (right + 1, inner[1]), (inner[0], top - 1), (inner[0], bottom + 1)))
        x, y = inner if sort == "right" else near if sort == "near" else (right + 20, bottom + 9)
        data: dict[str, Any] = {"kind": "point", "box": (left, top, right, bottom)}
        if rng.random() < 0.5:  # a triangle with the right angle at the top left: x + y is at most 40 more
            data = {"kind": "point", "polygon": [(left, top), (left + 40, top), (left, top + 40)]}
            a = rng.randint(0, 40)
            x, y = {"right": (left + a, top + 40 - a), "near": (left + a + 1, top + 40 - a), "wrong": (0, 0)}[sort]
            x, y = (x, y) if sort != "wrong" else (left + 41, top + 41)
        form = rng.choice(("({x:g}, {y:g})", "[{x:g}, {y:g}]", '{{"point_2d": [{x:g}, {y:g}]}}', "x={x:g}, y={y:g}"))
        yield Planted(data, phrased(rng, form.format(x=x, y=y), "(900, 900)"), sort)


_WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
]


def counts(rng: random.Random) -> Iterator[Planted]:
    """How many: digits, words, sentences; near-misses are off by one."""
    while True:
        many = rng.choice((rng.randint(1, 15), rng.randint(1, 40), rng.randint(1000, 2000)))
        sort: Sort = rng.choice(("right", "near", "wrong"))
        said = {"right": many, "near": many + rng.choice((-1, 1)), "wrong": many + rng.choice((2, 7, 100))}[sort]
        forms = [str(said), f"{said:,}", f"There are {said} circles.", f"I count {said} of them", f"一共有{said}个圆"]
        forms += (
            [_WORDS[said], f"{_WORDS[said].capitalize()}.", f"There are {_WORDS[said]} shapes"] if said < 16 else []
        )
        marks = [[rng.randrange(1000), 999] for _ in range(said)]
        forms += [f"<|point_start|>{marks}<|point_end|>", f"<|point_start|>{marks}<|point_end|>{said}"] * (0 < said < 9)
        yield Planted({"kind": "count", "value": many}, phrased(rng, rng.choice(forms), str(many + 3)), sort)


def readings(rng: random.Random) -> Iterator[Planted]:
    """Texts as the engine renders them (random characters); near-misses have one wrong, lost or too many."""
    while True:
        text = nonsense(rng, rng.choice(("en", "zh")), rng.randint(2, 30))
        sort: Sort = rng.choice(("right", "near", "wrong"))
        said = text if sort == "right" else _misread(rng, text) if sort == "near" else nonsense(rng, "en", 40)
        if sort != "right" and said == text:
            continue
        form = rng.choice(("{}", '"{}"', "<answer>{}</answer>", '<think>Is it "{}x"?</think>{}'))
        yield Planted({"kind": "ocr", "value": text}, form.format(said, said), sort)


def _misread(rng: random.Random, text: str) -> str:
    at = rng.choice([n for n, letter in enumerate(text) if letter.isalnum()])
    other = "永" if not text.isascii() else "q" if text[at] != "q" else "g"
    return rng.choice((text[:at] + other + text[at + 1 :], text[:at] + text[at + 1 :], text[:at] + other + text[at:]))


def charts(rng: random.Random) -> Iterator[Planted]:
    """Bars of a chart that matplotlib drew, their heights read off it; near-misses are 5.1 % off."""
    from matplotlib.figure import Figure

    while True:
        names = rng.sample(("Ghana", "Peru", "Nepal", "Iceland", "Laos", "Malta"), 4)
        heights = [round(rng.uniform(1, 900), 1) for _ in names]
        bars = Figure().subplots().bar(names, heights)
        read = {name: float(bar.get_height()) for name, bar in zip(names, bars, strict=True)}
        sort: Sort = rng.choice(("right", "near", "wrong"))
        name, value = rng.choice(list(read.items()))
        if rng.random() < 0.3:
            said = name if sort == "right" else next(other for other in names if other != name)
            yield Planted(
                {"kind": "chart", "value": name}, phrased(rng, said, "Chad"), "wrong" if sort == "near" else sort
            )
            continue
        off = {"right": rng.uniform(-0.049, 0.049), "near": rng.choice((-0.051, 0.051)), "wrong": 0.4}[sort]
        number = value * (1 + off)
        form = rng.choice(("{:.4f}", "{:,.4f}", "about {:.4f}", "${:.4f}"))
        yield Planted({"kind": "chart", "value": value}, phrased(rng, form.format(number), "1e9"), sort)


def spans(rng: random.Random) -> Iterator[Planted]:
    """Spans of time in seconds and on the clock; near-misses overlap by a hair too little."""
    while True:
        start, length, least = rng.randrange(7000), rng.randrange(100, 900), rng.choice((0.3, 0.5, 0.7))
        data = {"kind": "span", "start": start, "end": start + length, "min_iou": least}
        sort: Sort = rng.choice(("right", "near", "wrong"))
        overlap = {"right": rng.uniform(least + 0.002, 1), "near": least - 0.002, "wrong": 0.0}[sort]
        first = start + length * (1 - overlap) if sort != "wrong" else start + length + 5
        last = start + length if sort != "wrong" else start + 2 * length
        one, other = (f"{first:.2f}", f"{last:.2f}")
        forms = [f"{one}s - {other}s", f"from {one} to {other} seconds", f"[{one}, {other}]", f"{one} – {other}"]
        forms += [f"{clock(first)} to {clock(last)}", f"{clock(first)} - {clock(last)}", f"between {one}s and {other}s"]
        forms.append(f'{{"start": {one}, "end": {other}}}')
        yield Planted(data, phrased(rng, rng.choice(forms), "1 s to 2 s"), sort)


def clock(seconds: float) -> str:
    """hh:mm:ss.cc, or mm:ss.cc below an hour."""
    hours, rest = divmod(round(seconds * 100), 360000)
    minutes, cents = divmod(rest, 6000)
    tail = f"{minutes:02d}:{cents / 100:05.2f}"
    return f"{hours:02d}:{tail}" if hours else tail


_SAME = (
    ("m", "cm", 100),
    ("km", "m", 1000),
    ("kg", "g", 1000),
    ("h", "min", 60),
    ("L", "mL", 1000),
    ("m^2", "cm^2", 10**4),
)


def quantities(rng: random.Random) -> Iterator[Planted]:
    """Lengths, masses, times in another unit; near-misses are 1 % off at a tolerance of 0.9 %."""
    while True:
        unit, small, times = rng.choice(_SAME)
        value = round(rng.uniform(0.5, 500), 2)
        sort: Sort = rng.choice(("right", "near", "wrong"))
        off = {"right": rng.uniform(-0.0089, 0.0089), "near": rng.choice((-0.0091, 0.0091)), "wrong": 9.0}[sort]
        number = value * (1 + off)
        forms = [f"{number:.6f} {unit}", f"{number:.6f}{unit}", f"{number * times:.4f} {small}", f"{number:.6f}"]
        forms += [
            f"{number * times:,.4f} {small}",
            f"${number:.6f}\\,\\text{{{unit}}}$",
            f"{number / 1000:.9f} × 10^3 {unit}",
        ]
        data = {"kind": "number", "value": value, "unit": unit, "rel_tol": 0.009}
        yield Planted(data, phrased(rng, rng.choice(forms), "17 m"), sort)


def words(rng: random.Random, corpus: Path) -> Iterator[Planted]:
    """Questions and answers of easy-vqa; near-misses deny the answer or name another beside it."""
    lines = corpus.read_text(encoding="utf-8").splitlines()[:2000]
    answers = [json.loads(line)["conversations"][1]["value"] for line in lines]
    while True:
        answer, other = rng.sample(sorted(set(answers)), 2)
        sort: Sort = rng.choice(("right", "near", "wrong"))
        near = rng.choice((f"not {answer}", f"{answer} or {other}", f"{other} and {answer}", f"{answer}ish"))
        said = {"right": answer, "near": near, "wrong": other}[sort]
        form = rng.choice(("{}", "{}.", "It is {}.", "The shape is {}", "It's {}", "**{}**", "{}!", "A {}", '"{}"'))
        reply = form.format(said if "{}" in form[:2] or sort != "right" else said.capitalize())
        yield Planted({"kind": "exact", "value": answer}, phrased(rng, reply, other), sort)


def planted(pictures: list[Path], seed: int) -> dict[str, Iterator[Planted]]:
    """Endless planted answers by kind."""
    rngs = (random.Random(f"{seed} {kind}") for kind in range(8))
    return {
        "box": boxes(next(rngs), pictures), "point": points(next(rngs), pictures), "count": counts(next(rngs)),
        "ocr": readings(next(rngs)), "chart": charts(next(rngs)), "span": spans(next(rngs)),
        "number": quantities(next(rngs)), "exact": words(next(rngs), pictures[0].parents[1] / "train.jsonl"),
    }  # fmt: skip
