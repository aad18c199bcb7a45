"""What a worker of each model holds at most, each in a process of its own, and what starting Ray takes.

    python benchmarks/ray_workers.py [--checkpoint DIR] [--detector FILE] [--film FILE]

Peaks are of the whole process, Ray's client included: the figures of data_engine/runners/needs.py, rounded up there.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
from PIL import Image, ImageDraw

from data_engine import machine

Pixels = npt.NDArray[np.uint8]


def page() -> Pixels:
    """3840 x 2160 pixels full of text."""
    picture = Image.new("RGB", (1920, 1080), "white")
    for y in range(0, 1060, 22):
        ImageDraw.Draw(picture).text((10, y), "The quick brown fox jumps over the lazy dog " * 6, fill="black")
    return np.asarray(picture.resize((3840, 2160)))


def ocr() -> None:
    from data_engine.models import ocr

    for _ in range(3):
        ocr.read_text(page())


def safety() -> None:
    from data_engine.models import safety

    safety.scores([page()] * safety.BATCH)


def detector(model: str) -> None:
    from data_engine.models import detector

    detector.detect(page(), model, 0.5)


def checkpoint(folder: str) -> None:
    from data_engine.models import embedding

    drawn = np.random.default_rng(0).integers(0, 10**6, (256, 400))
    embedding.embed_texts(folder, [" ".join(map(str, words)) for words in drawn.tolist()])


def film(path: str) -> None:
    from data_engine import probe
    from data_engine.recipe import Frames

    with tempfile.TemporaryDirectory() as out:
        probe.probe_video(Path(path), "film", Path(out), Frames())


def measure(name: str, work: Callable[[str], None] | Callable[[], None], *arguments: str) -> None:
    import ray  # noqa: F401 - as in every worker

    work(*arguments)
    peak, now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, psutil.Process().memory_info().rss >> 20
    print(f"{name:<12} {peak:>6} MiB at most, {now:>6} MiB afterwards", flush=True)


def start() -> None:
    from data_engine.runners import ray_cluster

    began = time.perf_counter()
    ray_cluster.start()
    wall = time.perf_counter() - began
    cpu = sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children(recursive=True))
    print(f"Ray starts in {wall:.1f} s, {cpu:.1f} CPU-seconds of its processes", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("checkpoint", "detector", "film"):
        parser.add_argument(f"--{name}")
    options = parser.parse_args()
    machine.prepare()
    given = [(name, globals()[name], value) for name, value in vars(options).items() if value]
    spawn = multiprocessing.get_context("spawn")
    for target, arguments in [(measure, item) for item in [("ocr", ocr), ("safety", safety), *given]] + [(start, ())]:
        process = spawn.Process(target=target, args=arguments)
        process.start()
        process.join()


if __name__ == "__main__":
    main()
