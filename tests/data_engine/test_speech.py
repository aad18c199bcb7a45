"""Speech in films: real recordings dubbed over a real film at known seconds, read back by a real recogniser."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import ffmpeg
import pytest
from rapidfuzz import fuzz

from data_engine.makers.speech import InterleavedSpeech, alternating
from data_engine.making import Made, Tools, Unmade
from data_engine.media import MediaStore
from data_engine.models import speech
from data_engine.models.speech import Utterance
from data_engine.sample import Media, Part, Sample
from data_engine.sample import Message as Turn
from data_engine.sources.common import Quarantined
from strict_yaml import RecipeError
from tests.data_engine.speech_models import SPOKEN, dubbed, whisper

AT = {1.5: "0880", 7.0: "0870", 17.0: "0890"}
SECONDS = 24.0


@pytest.fixture(scope="module")
def film(corpora: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dubbed(corpora / "video/bbb_5min.mp4", AT, SECONDS, tmp_path_factory.mktemp("speech") / "film.mp4")


def words(text: str) -> str:
    return " ".join(re.findall(r"[a-z']+", text.lower().replace("-", " ").replace("mister", "mr")))


def assert_heard(said: list[Utterance], at: dict[float, str]) -> None:
    """Each sentence is found where it was put, within a second, and little else."""
    for start, number in at.items():
        near = [one for one in said if one.end > start and one.start < start + 8]
        text = words(" ".join(one.text for one in near))
        assert fuzz.partial_ratio(words(SPOKEN[number]), text) > 88, text
        assert min(abs(one.start - start) for one in near) < 1.0
    everything = " ".join(SPOKEN[number] for number in at.values())
    assert len(" ".join(one.text for one in said)) < 1.2 * len(everything)


def test_what_is_said_is_heard_where_it_is_said(film: Path) -> None:
    said = speech.transcribe(film, whisper())
    assert_heard(said, AT)
    assert all(0.5 < one.confidence <= 1 and one.start < one.end <= SECONDS for one in said)


def test_a_span_has_the_times_of_the_film(film: Path) -> None:
    assert_heard(speech.transcribe(film, whisper(), 16.0, 23.0), {17.0: "0890"})


def test_long_sound_is_cut_where_it_is_quiet(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "CHUNK", 10)
    monkeypatch.setattr(speech, "QUIET", 6)
    chunks = list(speech._chunks(film, 0.0, None))
    assert len(chunks) > 2
    for (at, sound), (later, _) in pairwise(chunks):
        assert later == pytest.approx(at + len(sound) / speech.RATE)
        assert not any(start + 0.1 < later < start + 2.8 for start in AT)  # no cut within the shortest sentence
    assert sum(len(sound) for _, sound in chunks) / speech.RATE == pytest.approx(SECONDS, abs=0.1)
    assert_heard(speech.transcribe(film, whisper()), AT)


def test_a_film_without_sound_says_nothing(corpora: Any) -> None:
    assert speech.transcribe(corpora / "video/vtest.avi", whisper()) == []


def test_a_folder_that_is_no_recogniser_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"model\.bin is missing"):
        speech.require(str(tmp_path))
    speech.require(whisper())


def of(path: Path, store: Path, start: float | None = None, end: float | None = None) -> Sample:
    key = MediaStore(store).put_file(path)
    shown = Turn("document", (Part("video", media=(0,)),))
    return Sample("films", "video", "film", (shown,), (Media("video", key, start, end),), origin=path.name)


def test_speech_stands_between_the_pictures_it_was_spoken_over(film: Path, tmp_path: Path) -> None:
    rule = InterleavedSpeech(model=whisper())
    (made,) = rule.make([of(film, tmp_path)], Tools(tmp_path))
    assert isinstance(made, Made)
    parts = made.sample.messages[0].parts
    assert [part.kind for part in parts] == ["video", "text"] * (len(parts) // 2) and len(parts) >= 4
    spans = [made.sample.media[part.media[0]] for part in parts if part.kind == "video"]
    assert spans[0].start is None and spans[-1].end is None
    assert all(one.end == two.start for one, two in pairwise(spans))
    spoken = [part.text for part in parts if part.kind == "text"]
    for start, number in AT.items():
        (place,) = [
            number_
            for number_, span in enumerate(spans)
            if (span.start or 0) <= start + 1.2 < (SECONDS if span.end is None else span.end)
        ]
        assert fuzz.partial_ratio(words(SPOKEN[number]), words(" ".join(spoken[place : place + 2]))) > 85
    (again,) = rule.make([of(film, tmp_path)], Tools(tmp_path))
    assert again == made


def test_silence_is_told_apart_from_damage(corpora: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 400)
    samples = [of(corpora / "video/vtest.avi", tmp_path / "store"), of(broken, tmp_path / "store")]
    silent, faulty = InterleavedSpeech(model=whisper()).make(samples, Tools(tmp_path / "store"))
    assert isinstance(silent, Unmade) and silent.reason == "no speech in it"
    assert isinstance(faulty, Quarantined) and "broken.mp4" in faulty.locator and "media" in faulty.field


def test_sound_that_does_not_decode_is_an_error(film: Path, tmp_path: Path) -> None:
    sound = tmp_path / "sound.mkv"
    ffmpeg.input(str(film)).output(str(sound), vn=None, acodec="copy", loglevel="error").run()
    data = bytearray(sound.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    (tmp_path / "cut.mkv").write_bytes(data)
    heard = speech.transcribe(tmp_path / "cut.mkv", whisper())
    assert heard == [] or len(heard) < 3


@pytest.mark.parametrize("least", [0.5, 2.0, 6.0, 100.0])
def test_spans_fill_the_film_and_keep_every_word(least: float) -> None:
    said = [Utterance(at, at + 1.4, f"w{at}", 0.9) for at in (3.0, 4.5, 9.0, 17.0, 18.5, 19.9)]
    spans = alternating(said, Media("video", "k", 2.0, 21.0), least)
    assert " ".join(text for _, text in spans) == " ".join(one.text for one in said)
    assert spans[0][0].start == 2.0 and spans[-1][0].end == 21.0
    assert all(one.end == two.start for (one, _), (two, _) in pairwise(spans))
    assert all(span.end - span.start >= least for span, _ in spans) or len(spans) == 1  # type: ignore[operator]
