"""Decoding of real clips in every odd form that ffmpeg can write."""

import json
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from data_engine import video
from data_engine.media import MediaError
from model.decoding import VideoError, check_whole, hold, pick, probe, sample, scan
from model.video_plan import plan_file
from model.visual_tokens import SLOW_FAST, VisualBudget
from tests import films

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg on PATH")
SIZE = (36, 64)
FAST = ["-c:v", "libx264", "-preset", "ultrafast", "-an"]


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def shown_at(path: Path) -> list[float]:
    """By ffprobe, which decodes: when each frame of the video comes on screen, the file starting at 0."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries"]
    command += ["frame=best_effort_timestamp_time:format=start_time", "-of", "json", str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    start = float(found["format"].get("start_time", 0))
    frames = enumerate(found["frames"])  # a bare stream has no times: they follow from its rate
    return [float(frame.get("best_effort_timestamp_time", place / 24)) - start for place, frame in frames]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decoding")


@pytest.fixture(scope="module")
def clip(folder: Path) -> Path:
    """Six seconds of the film, 320 x 180, with pictures that others are predicted from in both directions."""
    path = folder / "clip.mp4"
    slow = ["-c:v", "libx264", "-preset", "veryfast", "-an"]
    ffmpeg("-ss", "60", "-t", "6", "-i", films.film(), "-vf", "scale=320:180", *slow, path)
    return path


def made(folder: Path, clip: Path, form: str) -> Path:
    """The clip in another form; without a suffix in `form`, mp4."""
    path = folder / (form if "." in form else f"{form}.mp4")
    match form:
        case "vfr":
            chosen = "select='lt(n,30)+not(mod(n,7))'"
            ffmpeg("-i", clip, "-vf", chosen, "-fps_mode", "vfr", *FAST, path)
        case "slideshow":
            ffmpeg("-i", clip, "-vf", "select='not(mod(n,48))'", "-fps_mode", "vfr", *FAST, path)
        case "annexb.h264":
            ffmpeg("-i", clip, "-c", "copy", "-bsf:v", "h264_mp4toannexb", path)
        case "late":
            ffmpeg("-f", "lavfi", "-i", "sine=d=6", "-itsoffset", "0.6", "-i", clip, "-c:v", "copy", path)
        case "from_two.ts":
            ffmpeg("-i", clip, "-c", "copy", "-output_ts_offset", "200", path)
        case "odd":
            ffmpeg("-i", clip, "-vf", "scale=175:143", "-c:v", "mpeg4", path)
        case "two_sizes.ts":
            for number, size in enumerate(("320x180", "160x90")):
                offset = ["-output_ts_offset", str(2 * number)]
                part = folder / f"{number}.part.ts"
                ffmpeg("-t", "2", "-i", clip, "-s", size, "-c:v", "mpeg2video", "-bf", "0", *offset, part)
            path.write_bytes(b"".join((folder / f"{number}.part.ts").read_bytes() for number in (0, 1)))
        case _:
            ffmpeg("-i", clip, "-c", "copy", path)
    return path


FORMS = (
    "same",
    "vfr",
    "slideshow",
    "stream.ts",
    "annexb.h264",
    "clip.mkv",
    "late",
    "from_two.ts",
    "odd",
    "two_sizes.ts",
)


@pytest.mark.parametrize("form", FORMS)
def test_frames_are_numbered_and_timed_as_ffprobe_sees_them(folder: Path, clip: Path, form: str) -> None:
    path = made(folder, clip, form)
    info, truth = probe(path), shown_at(path)
    found = list(sample(path, info, 2, SIZE, quick=True))
    first_of = {int((time + 1e-5) * 2): place for place, time in reversed(list(enumerate(truth)))}
    assert [frame.index for frame in found] == sorted(first_of.values())
    assert [frame.time for frame in found] == pytest.approx([truth[frame.index] for frame in found], abs=1e-4)
    assert info.duration == pytest.approx(scan(path, info).end, abs=0.7)


@pytest.mark.parametrize("form", ["same", "annexb.h264", "vfr", "odd"])
def test_picked_frames_are_the_source_frames_of_these_numbers(folder: Path, clip: Path, form: str) -> None:
    path = made(folder, clip, form)
    info = probe(path)
    every = [frame.pixels for frame in sample(path, info, 1000, SIZE)]
    assert len(every) == len(shown_at(path))
    wanted = list(range(0, len(every), 3))
    picked = list(pick(path, info, wanted, SIZE))
    assert [frame.index for frame in picked] == wanted
    assert all((frame.pixels == every[frame.index]).all() for frame in picked)
    for frame in sample(path, info, 2, SIZE):
        assert (frame.pixels == every[frame.index]).all()


def test_quick_frames_are_the_same_but_for_block_edges(clip: Path) -> None:
    info = probe(clip)
    pairs = zip(sample(clip, info, 4, SIZE), sample(clip, info, 4, SIZE, quick=True), strict=True)
    for exact, quick in pairs:
        assert exact.index == quick.index
        assert np.abs(exact.pixels.astype(int) - quick.pixels).mean() < 1.5


def test_many_frames_are_picked_in_one_pass() -> None:
    path = films.street()
    assert [frame.index for frame in pick(path, probe(path), range(795), (8, 8))] == list(range(795))


def test_held_frames_are_those_on_screen(folder: Path, clip: Path) -> None:
    """A slideshow of a picture every two seconds, asked twice a second: each is there four times."""
    path = made(folder, clip, "slideshow")
    found = list(hold(path, probe(path), 2, SIZE))
    assert all((found[place] == found[place // 4 * 4]).all() for place in range(len(found)))
    assert len(found) >= 9 and not (found[0] == found[4]).all()


@pytest.mark.parametrize("form", ["same", "slideshow", "clip.mkv", "late", "from_two.ts"])
def test_a_span_is_held_as_the_whole_file_is(folder: Path, clip: Path, form: str) -> None:
    """Also where the frame on screen began long before the span, and where no frame begins in it at all."""
    path = made(folder, clip, form)
    info = probe(path)
    whole = list(hold(path, info, 4, SIZE))
    for start, end in ((0.0, 1.0), (1.0, 2.5), (2.25, 2.5), (4.5, 5.5)):
        found = list(hold(path, info, 4, SIZE, start=start, end=end))
        expected = whole[int(4 * start) : int(4 * end)]
        assert len(found) == len(expected)
        assert all((a == b).all() for a, b in zip(found, expected, strict=True)), (start, end)


@pytest.mark.parametrize(
    ("matrix", "side"), [((0, 1, -1, 0), "right"), ((-1, 0, 0, -1), "below"), ((0, -1, 1, 0), "left")]
)
def test_rotation_is_applied(folder: Path, matrix: tuple[int, int, int, int], side: str) -> None:
    """A picture whose upper half is white, under a track header that turns it (ISO 14496-12: x' = ax + cy)."""
    plain, turned = folder / "plain.mp4", folder / f"{side}.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=black:s=128x64:d=1,drawbox=0:0:128:32:white:fill", *FAST, plain)
    data = bytearray(plain.read_bytes())
    place = data.index(b"tkhd") + 44
    a, b, c, d = (one * 0x10000 for one in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    turned.write_bytes(data)
    info = probe(turned)
    size = (64, 128) if side == "below" else (128, 64)
    assert (info.height, info.width) == size
    pixels = next(sample(turned, info, 2, size)).pixels.mean(axis=2)
    rows, columns = size[0] // 2, size[1] // 2
    white = {"below": pixels[rows:], "left": pixels[:, :columns], "right": pixels[:, columns:]}[side]
    black = {"below": pixels[:rows], "left": pixels[:, columns:], "right": pixels[:, :columns]}[side]
    assert white.mean() > 230 and black.mean() < 25


def test_what_is_no_whole_video_is_one_line(folder: Path, clip: Path) -> None:
    """Sound, covers, pictures cut anywhere, bytes of nothing: each has its reason, which names the file."""
    front = folder / "front.mp4"
    ffmpeg("-i", clip, "-c", "copy", "-movflags", "faststart", front)
    whole = front.read_bytes()
    ffmpeg("-f", "lavfi", "-i", "sine=d=2", folder / "sound.wav")
    cover = ["-f", "lavfi", "-i", "color=red:s=64x64:d=0.04", "-map", "0", "-map", "1", "-c:v", "png"]
    ffmpeg("-i", folder / "sound.wav", *cover, "-disposition:v", "attached_pic", folder / "cover.mp3")
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "no_index.mp4").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    (folder / "header.mp4").write_bytes(whole[: whole.index(b"mdat") + 4])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(20_000))
    reasons = {
        "sound.wav": "no video stream",
        "cover.mp3": "no video stream",
        "cut.mp4": "of the 6.0 s its header claims",
        "no_index.mp4": "moov atom not found",
        "header.mp4": "without data",
        "empty.mp4": "empty file",
        "noise.mp4": "not a media file",
        "missing.mp4": "no such file",
    }
    for name, reason in reasons.items():
        for budget in SLOW_FAST.values():
            with pytest.raises(VideoError) as error:
                plan_file(folder / name, budget)
            assert reason in str(error.value) and name in str(error.value) and "\n" not in str(error.value)


def test_damage_in_the_middle_is_lived_through_or_told(folder: Path, clip: Path) -> None:
    """Runs of wrong bytes: there is a plan of frames that rise in time, or a reason."""
    whole = clip.read_bytes()
    for seed in range(6):
        random = np.random.default_rng(seed)
        data = bytearray(whole)
        for place in random.integers(2000, len(whole) - 20_000, 4):
            data[place : place + 3000] = random.bytes(3000)
        path = folder / f"damaged{seed}.mp4"
        path.write_bytes(data)
        try:
            planned = plan_file(path, SLOW_FAST["paper"])
        except VideoError as error:
            assert path.name in str(error) and "\n" not in str(error)
        else:
            assert planned.times == sorted(set(planned.times)) and planned.indices == sorted(set(planned.indices))


def test_a_file_may_be_called_anything(folder: Path, clip: Path) -> None:
    for name in ("-v.mp4", "http:a.mp4", "a %03d 'b',c.mp4"):
        shutil.copy(clip, folder / name)
        assert len(plan_file(folder / name, VisualBudget()).times) == 12


def test_the_data_engine_gives_the_same_reasons_as_media_errors(folder: Path, clip: Path) -> None:
    (folder / "half.mp4").write_bytes(clip.read_bytes()[:9000])
    with pytest.raises(MediaError, match=r"^not a media file that ffprobe can read: moov atom not found"):
        video.probe(folder / "half.mp4")
    info = video.probe(clip)
    frames = list(video.sample_frames(clip, info, fps=2, max_side=64))
    assert [frame.shape for frame in frames] == [(36, 64, 3)] * 12
    with pytest.raises(VideoError, match=r"ends at 3\.0 s of the 6\.0 s"):
        check_whole(clip, info, 3.0)
