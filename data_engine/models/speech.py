"""Speech to text by a Whisper folder in CTranslate2's form, through faster-whisper; nothing is fetched.

Sound is decoded by ffmpeg, ten minutes at a time, so that memory does not grow with the film.
"""

import functools
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ffmpeg
import numpy as np
import numpy.typing as npt

from data_engine.media import MediaError
from data_engine.runners.needs import MIB, Needs
from strict_yaml import RecipeError

RATE = 16_000
"""Samples a second that Whisper hears."""
CHUNK = 600
"""Seconds that are decoded at once."""
QUIET = 20
"""Seconds at the end of a chunk in which the quietest moment is looked for: a word is not to be cut in two."""

PAUSE = 0.6
"""Seconds of silence that end an utterance, as the end of a sentence does."""
SENTENCE_ENDS = (".", "?", "!", "。", "？", "！")

Sound = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Utterance:
    """What is said from `start` to `end`, seconds of the file; `confidence` is the mean probability of its words."""

    start: float
    end: float
    text: str
    confidence: float


def require(model: str) -> None:
    """Raises RecipeError for what is no Whisper folder, or where faster-whisper is missing."""
    folder = Path(model).expanduser()
    lacking = [name for name in ("model.bin", "config.json", "tokenizer.json") if not (folder / name).is_file()]
    if lacking:
        raise RecipeError(f"{model}: {lacking[0]} is missing; name a Whisper folder in CTranslate2's form")
    try:
        import faster_whisper  # noqa: F401
    except ImportError as error:
        raise RecipeError("faster-whisper is not installed: pip install keyeforge[video]") from error


def needs(model: str) -> Needs:
    """What a worker that listens takes: ten minutes of sound, the framework, and the weights."""
    weights = sum(file.stat().st_size for file in Path(model).expanduser().glob("*.bin"))
    return Needs(("speech",), memory=800 * MIB + weights)  # 858 MiB were seen with 72 MiB of weights


def has_sound(path: Path) -> bool:
    """Whether a file has an audio stream. Raises MediaError for what is no media file."""
    try:
        streams = ffmpeg.probe(str(path), select_streams="a", show_entries="stream=index")["streams"]
    except ffmpeg.Error as error:
        raise MediaError("not a media file that ffprobe can read") from error
    return bool(streams)


def transcribe(path: Path, model: str, start: float = 0.0, end: float | None = None) -> list[Utterance]:
    """What is said in a file between `start` and `end` (seconds); nothing where it has no sound, or no speech.

    Greedy beams at temperature 0 on one thread: the same words wherever it runs. Raises MediaError.
    """
    if not has_sound(path):
        return []
    whisper, words = _load(str(Path(model).expanduser())), list[_Word]()
    for at, sound in _chunks(path, start, end):
        heard, _ = whisper.transcribe(
            sound, beam_size=5, temperature=0.0, condition_on_previous_text=False, vad_filter=True, word_timestamps=True
        )
        words += [_Word(at + w.start, at + w.end, w.word, w.probability) for part in heard for w in part.words]
    return [_utterance(group) for group in _between_pauses(words)]


class _Word(NamedTuple):
    start: float
    end: float
    text: str
    probability: float


def _between_pauses(words: Sequence[_Word]) -> Iterator[list[_Word]]:
    """Words up to a pause, or to the end of a sentence."""
    group: list[_Word] = []
    for word in words:
        if group and (word.start - group[-1].end >= PAUSE or group[-1].text.rstrip().endswith(SENTENCE_ENDS)):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _utterance(words: Sequence[_Word]) -> Utterance:
    text = "".join(word.text for word in words).strip()
    confidence = sum(word.probability for word in words) / len(words)
    return Utterance(round(float(words[0].start), 2), round(float(words[-1].end), 2), text, round(float(confidence), 4))


@functools.lru_cache(maxsize=1)
def _load(model: str) -> Any:
    from faster_whisper import WhisperModel

    return WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True)


def _chunks(path: Path, start: float, end: float | None) -> Iterator[tuple[float, Sound]]:
    """(second it begins at, samples) of the sound, cut at quiet moments about every `CHUNK` seconds."""
    span = {"ss": start} | ({} if end is None else {"t": end - start})
    command = (
        ffmpeg.input(str(path), **span)
        .output("pipe:", map="0:a:0", format="f32le", ac=1, ar=RATE, loglevel="error")
        .compile()
    )
    rest, at = np.empty(0, np.float32), start
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        while len(data := process.stdout.read(4 * RATE * CHUNK - rest.nbytes)):
            rest = np.concatenate([rest, np.frombuffer(data[: len(data) // 4 * 4], np.float32)])
            cut = _quietest(rest) if len(rest) >= RATE * CHUNK else len(rest)
            yield at, rest[:cut]
            rest, at = rest[cut:], at + cut / RATE
        fault = process.stderr.read().decode(errors="replace").strip().splitlines()
    if len(rest):
        yield at, rest
    if process.returncode and at == start and not len(rest):
        raise MediaError(f"its sound cannot be decoded: {fault[-1] if fault else 'no reason given'}")


def _quietest(sound: Sound) -> int:
    """The sample, within the last `QUIET` seconds, in the middle of the quietest half second."""
    window = RATE // 2
    tail = sound[-QUIET * RATE :]
    loudness = np.square(tail[: len(tail) // window * window].reshape(-1, window)).mean(axis=1)
    return len(sound) - len(tail) + int(loudness.argmin()) * window + window // 2
