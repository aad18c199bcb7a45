"""Every operator there is, on each of the three runners: the same bytes, by models too."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image

from data_engine import grounding as g
from data_engine import judge, label, probe, tables
from data_engine import sample as samples
from data_engine.media import MediaStore
from data_engine.models import tesseract
from data_engine.recipe import Frames
from data_engine.runners import partition
from data_engine.runners.partition import RunnerName, Work
from data_engine.sample import Media, Message, Part, Sample, Trial, assistant, document, user
from strict_yaml import RecipeError
from tests.data_engine.operators.conftest import COLOURS, draw
from tests.data_engine.operators.test_ocr_operators import LINES, page
from tests.data_engine.operators.test_perplexity import folder as causal_model

RUNNERS: tuple[RunnerName, ...] = ("local", "spark", "ray")
PICTURE = Part("image", media=(0,))


def shown(store: MediaStore, root: Path) -> dict[str, str]:
    """Keys of a picture of every colour, of a page of print and of a film of two seconds."""
    files = {colour: draw(colour, 20) for colour in COLOURS} | {"page": Image.fromarray(page(LINES))}
    for name, picture in files.items():
        picture.save(root / f"{name}.png")
    film = ffmpeg.input("testsrc=duration=2:size=64x48:rate=5", f="lavfi").output(
        str(root / "film.mp4"), loglevel="error", pix_fmt="yuv420p"
    )
    film.run()
    return {path.stem: store.put_file(path) for path in sorted([*root.glob("*.png"), root / "film.mp4"])}


def captioned(keys: dict[str, str]) -> list[Sample]:
    return [one(keys[colour], f"A {colour} thing.") for colour in COLOURS]


def one(key: str, answer: str, question: str = "What is in the picture?", **more: Any) -> Sample:
    return Sample("c", "image", "vqa", (user(PICTURE, question), assistant(answer)), (Media("image", key),), **more)


def grounded(keys: dict[str, str]) -> list[Sample]:
    """Boxes that are right, double, crossed or not to be read, and points that are counted."""
    whole, half, red = g.Box(0, 0, 999, 999), g.Box(0, 0, 999, 500), g.Label("A red thing.")
    shapes = g.render([replace(whole, label=red), replace(half, label=red)])
    answers = [shapes, shapes + "<|box_start|>[[1, 2]]<|box_end|>", "There are 2. " + g.render([g.Point(5, 5)] * 2)]
    return [one(keys["red"], answer) for answer in answers]


def words() -> list[Sample]:
    """Rows of text alone: conversations with trials, and documents in two languages, one with personal data."""
    lines = "The first of many lines that say the same thing, and then some more.\n" * 8
    trials = (Trial(True, 40), Trial(False, 300))
    talk = Sample("c", "text", "math", (user("What is one and one?"), assistant("Two, as ever.")), trials=trials)
    texts = [lines, "花园里有一朵红花，它在春天开放。" * 9, "Write to a@b.cn or call +1 (415) 555 2671. #tag"]
    return [talk, *(Sample("c", "text", "text", (document(text),), licence="MIT") for text in texts)]


def pages(keys: dict[str, str]) -> list[Sample]:
    """Print with its exact text, and with another's."""
    return [one(keys["page"], text, "What does it say?") for text in ("\n".join(LINES), "Quite another text.")]


def broken(keys: dict[str, str]) -> list[Sample]:
    """A question without an answer, and a picture that is nowhere shown."""
    unseen = replace(one(keys["red"], "A red thing."), messages=(user("What is it?"), assistant("No idea.")), id="")
    return [Sample("c", "text", "sft", (user("Is anybody there?"),)), unseen]


def mixed(keys: dict[str, str]) -> list[Sample]:
    """A document of pictures and words, and a question about a film."""
    colours = ("red", "blue", "green")
    parts = [
        part
        for place, colour in enumerate(colours)
        for part in (Part("text", text=f"A {colour} thing."), Part("image", media=(place,)))
    ]
    media = tuple(Media("image", keys[colour]) for colour in colours)
    asked = (user(Part("video", media=(0,)), "What moves?"), assistant("A pattern of colours."))
    return [
        Sample("c", "image", "interleaved", (Message("document", tuple(parts)),), media),
        Sample("c", "video", "vqa", asked, (Media("video", keys["film"]),)),
    ]


@dataclass(frozen=True)
class Case:
    """Samples to which each operator has something to say, and all operators, those without a model left out."""

    rows: pa.Table
    readable: pa.Table
    listing: pa.Table
    store: Path
    operators: list[tuple[str, judge.Operator]]


@pytest.fixture(scope="module")
def case(scorer: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    root = tmp_path_factory.mktemp("every")
    keys = shown(MediaStore(root / "media"), root)
    model, scored = str(causal_model(root / "causal", blind=False)), {"model": str(scorer)}
    needed: dict[str, dict[str, Any]] = {
        "rights": {"policy": {"refused": ["GPL*"]}},
        "tombstone": {"folders": ()},
        "image_text_score": {**scored, "min_score": 0.1},
        "crop_text_score": scored,
        "interleaved_match": scored,
        "perplexity": {"model": model},
        "ocr_engines": {"languages": ("eng",)},
    }
    found = [(name, kind(**needed.get(name, {}))) for name, kind in judge.OPERATORS.items() if can_run(name)]
    rows = [*captioned(keys), *grounded(keys), *words(), *pages(keys), *mixed(keys), *broken(keys)]
    kinds = [(key, "video" if name == "film" else "image") for name, key in sorted(keys.items())]
    listing = pa.table({"key": [key for key, _ in kinds], "kind": [kind for _, kind in kinds]})
    return Case(samples.to_table(rows), samples.to_table(pages(keys)), listing, root / "media", found)


def can_run(name: str) -> bool:
    """All operators but the one that asks a program which may not be installed: Tesseract."""
    try:
        tesseract.require(["eng"])
    except RecipeError:
        return name != "ocr_engines"
    return True


def run_chain(case: Case, name: RunnerName, out: Path) -> Path:
    """Probe, readings, what models see, measures and verdicts, as `data_engine.chain` runs them."""

    def step(work: Work, table: pa.Table, size: int, folder: str) -> Path:
        partition.run(name, work, tables.write_partitions(table, out / folder / "_in", size), out / folder, silent)
        return out / folder

    silent: Callable[[int, int], None] = lambda done, total: None  # noqa: E731
    parts = tables.write_partitions(case.rows, out / "samples", 4)
    units = pa.table({"part": [part.name for part in parts]})
    opened = partial(probe.probe_partition, store=case.store, frames=out / "probe/frames", config=Frames())
    readings = step(partial(label.label_partition, store=case.store), case.readable, 1, "read") / "ocr"
    sight = judge.Sight(out / "samples", step(opened, case.listing, 3, "probe"), readings, case.store)
    looking = [item for item in case.operators if item[1].needs_media]
    looked = step(partial(judge.look_partition, operators=looking, sight=sight), units, 1, "look") / "looked"
    plain = [item for item in case.operators if not item[1].needs_media]
    sight = replace(sight, looked=looked)
    measures = step(partial(judge.measure_partition, operators=plain, sight=sight), units, 1, "measure") / "measures"
    step(partial(judge.decide_partition, operators=case.operators, measures=measures), units, 1, "decide")
    return measures


@pytest.fixture(scope="module")
def ran(case: Case, spark: Any, ray: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each runner's tables."""
    root = tmp_path_factory.mktemp("ran")
    for name in RUNNERS:
        run_chain(case, name, root / name)
    return {name: root / name for name in RUNNERS}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*.parquet"))
    }


def test_every_operator_gives_the_same_bytes_on_all_runners(ran: dict[str, Path]) -> None:
    local, spark, ray = (digests(ran[name]) for name in RUNNERS)
    assert local == spark == ray
    assert {name.split("/")[0] for name in local} == {"samples", "read", "probe", "look", "measure", "decide"}


def test_none_is_left_out_and_each_had_something_to_say(case: Case, ran: dict[str, Path]) -> None:
    """Every column that an operator looks at has a value somewhere: bytes of nothing would be equal too."""
    covered = {name for name, _ in case.operators}
    assert covered | {"ocr_engines"} == set(judge.OPERATORS)
    measures = tables.read(ran["local"] / "measure" / "measures")
    said = {name for name in measures.column_names if measures[name].null_count < len(measures)}
    silent = {name: set(kind.looks_at) - said for name, kind in case.operators}
    assert not {name: columns for name, columns in silent.items() if columns}
    verdicts = tables.read(ran["local"] / "decide" / "verdicts")
    assert pc.count_distinct(verdicts["operator"]).as_py() > 3
    if "ocr_engines" not in covered:
        pytest.skip("ocr_engines asks Tesseract, which is not installed: apt-get install tesseract-ocr")


def test_a_score_is_the_same_with_one_thread_and_with_many(scorer: Path) -> None:
    import torch

    from data_engine.models import image_text

    pictures = [np.asarray(draw(colour, 3)) for colour in COLOURS] * 4
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 4):
            torch.set_num_threads(threads)
            found.append(image_text.embed_images(str(scorer), pictures))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*found)
