"""Unpacks the demo corpora: what each package holds, taken out into one tidy tree.

Every function takes the verified archive and the folder to fill, and takes out only what the demo reads.
Members are written under names chosen here, so that no archive can write outside its folder.
"""

import gzip
import io
import json
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import IO, Any

STAMPS = PurePosixPath("usr/share/tuxpaint/stamps")
OPENCV = PurePosixPath("usr/share/doc/opencv-doc/examples")
REFERENCE = PurePosixPath("usr/share/debian-reference")
MOVIE_ZIP = "docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip"
TRAILER = "docs/_static/medias/getting_started/moviepy_10_minutes/trailer_bbb.mp4"
MOVIE = "moviepy_10_minutes/resources/bbb.mp4"
WORDS_IMAGES = 1500


def stamps(deb: Path, out: Path) -> None:
    """Photos and drawings (PNG) with the side-car captions of the same name: `stamps/<category>/`."""
    captions: dict[PurePosixPath, bytes] = {}
    for path, data in debian_files(deb, lambda path: path.suffix in (".png", ".txt")):
        if not path.is_relative_to(STAMPS):
            continue
        relative = path.relative_to(STAMPS)
        if relative.suffix == ".txt":
            captions[relative] = data
        else:
            write(out / "stamps" / relative, data)
    for relative, data in captions.items():
        if (out / "stamps" / relative.with_suffix(".png")).exists():
            write(out / "stamps" / relative, data)


def opencv(deb: Path, out: Path) -> None:
    """Photos of text: `scene_text/`; a street filmed by a standing camera: `video/vtest.avi`."""
    for path, data in debian_files(deb, lambda path: path.is_relative_to(OPENCV)):
        photo = path.parent == OPENCV / "text" and path.suffix == ".jpg"
        page = path.parent == OPENCV / "data" and "text" in path.stem.lower() and path.suffix in (".jpg", ".png")
        if photo or page:
            write(out / "scene_text" / path.name, data)
        elif path == OPENCV / "data" / "vtest.avi":
            write(out / "video" / path.name, data)


def reference(language: str, folder: str) -> Callable[[Path, Path], None]:
    """The Debian Reference in one language: `manuals/*.pdf` and its plain text in `text/<folder>/`."""

    def unpack(deb: Path, out: Path) -> None:
        name = f"debian-reference.{language}"
        for path, data in debian_files(deb, lambda path: path.is_relative_to(REFERENCE)):
            if path.name == f"{name}.pdf":
                write(out / "manuals" / path.name, data)
            elif path.name == f"{name}.txt.gz":
                write(out / "text" / folder / f"{name}.txt", gzip.decompress(data))

    return unpack


def easy_vqa(wheel: Path, out: Path) -> None:
    """Train split as LLaVA-style JSONL: `easy_vqa/`; the test split as published: `easy_vqa_test/`.

    `easy_vqa_words/` holds train questions as dialogues about an unseen picture, for the text warm-up.
    """
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            _, _, path = name.partition("easy_vqa/data/")
            if path.startswith("train/images/") and path.endswith(".png"):
                write(out / "easy_vqa" / "images" / PurePosixPath(path).name, archive.read(name))
            elif path.startswith("test/images/") and path.endswith(".png"):
                write(out / "easy_vqa_test" / "images" / PurePosixPath(path).name, archive.read(name))
            elif path in ("test/questions.json", "answers.txt"):
                write(out / "easy_vqa_test" / PurePosixPath(path).name, archive.read(name))
        questions = json.loads(archive.read("easy_vqa/data/train/questions.json"))
    _write_jsonl(out / "easy_vqa" / "train.jsonl", map(_question_line, range(len(questions)), questions))
    _write_jsonl(out / "easy_vqa_words" / "train.jsonl", _dialogues(questions))


def _question_line(index: int, row: list[Any]) -> dict[str, Any]:
    question, answer, image = row
    turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
    return {"id": f"train-{index}", "image": f"images/{image}.png", "conversations": turns}


def _dialogues(questions: list[list[Any]]) -> Iterator[dict[str, Any]]:
    """All questions on one picture as one conversation that does not show it, for the first `WORDS_IMAGES`.

    Later answers follow from earlier ones, so a language model learns from these to answer by its context.
    """
    for image, rows in groupby(sorted(questions, key=lambda row: row[2]), key=lambda row: row[2]):
        if image >= WORDS_IMAGES:
            return
        turns = [{"from": role, "value": text} for row in rows for role, text in (("human", row[0]), ("gpt", row[1]))]
        yield {"id": f"words-{image}", "conversations": turns}


def champ(wheel: Path, out: Path) -> None:
    """Competition problems with their worked solutions as conversations: `champ/champ.jsonl`.

    `champ_heldout/` holds every tenth once more: the demo takes it for a benchmark that nothing may train on.
    """
    with zipfile.ZipFile(wheel) as archive:
        problems = json.loads(archive.read("champ_dataset/dataset_files/v0.json"))["problems"]
    lines = [_problem_line(problem) for problem in problems.values()]
    _write_jsonl(out / "champ" / "champ.jsonl", lines)
    _write_jsonl(out / "champ_heldout" / "problems.jsonl", lines[::10])


def _problem_line(problem: dict[str, Any]) -> dict[str, Any]:
    steps = [f"{n}. {step['_text']}" for n, step in enumerate(problem["solution"]["steps"], start=1)]
    answer = "\n".join([*steps, f"Answer: {problem['_answer']}"])
    turns = [{"from": "human", "value": problem["_text"]}, {"from": "gpt", "value": answer}]
    return {"id": problem["identifier"], "category": problem["category"], "conversations": turns}


def film(sdist: Path, out: Path) -> None:
    """The first five minutes of Big Buck Bunny, cut by stream copy: `video/bbb_5min.mp4`; `trailer/trailer_bbb.mp4`."""
    target, trailer = out / "video" / "bbb_5min.mp4", out / "trailer" / "trailer_bbb.mp4"
    target.parent.mkdir(parents=True, exist_ok=True)
    trailer.parent.mkdir(exist_ok=True)
    inner = zipfile.ZipFile(_tar_member(sdist, MOVIE_ZIP))
    with tempfile.TemporaryDirectory(dir=out) as scratch, inner:
        trailer.write_bytes(_tar_member(sdist, TRAILER).getvalue())
        whole = Path(inner.extract(MOVIE, scratch))
        cut = ["-t", "300", "-map", "0:v:0", "-map_metadata", "-1", "-c", "copy", "-fflags", "+bitexact"]
        command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(whole), *cut, str(target)]
        subprocess.run(command, check=True, capture_output=True, text=True)


def _tar_member(sdist: Path, suffix: str) -> io.BytesIO:
    """The one member of a `.tar.gz` below its top folder whose path is `suffix`."""
    with tarfile.open(sdist) as archive:
        for member in archive:
            if member.isfile() and member.name.partition("/")[2] == suffix:
                return io.BytesIO(_contents(archive, member))
    raise FileNotFoundError(f"{sdist.name}: no member {suffix}")


def debian_files(deb: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[PurePosixPath, bytes]]:
    """The wanted files of a Debian package, read from `dpkg-deb` without unpacking the rest."""
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                path = PurePosixPath(member.name.removeprefix("./"))
                if member.isfile() and wanted(path):
                    yield path, _contents(archive, member)
        process.stdout.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def _contents(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream: IO[bytes] | None = archive.extractfile(member)
    assert stream is not None
    return stream.read()


def write(path: Path, data: bytes) -> None:
    """Puts a member at a path chosen here."""
    if ".." in path.parts:
        raise ValueError(f"{path}: an archive member climbs out of its folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write(path, "".join(lines).encode())
