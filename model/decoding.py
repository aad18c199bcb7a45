"""Frames of a video file by ffmpeg, chosen and scaled while they are decoded: never the whole clip in memory.

Needs neither torch nor transformers. Times are seconds on the player's clock: 0 is where the file starts. ffmpeg
decodes in one thread, which costs the fewest CPU-seconds a frame; many files in parallel use many cores.
"""

import math
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import ffmpeg
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]
"""Height and width in pixels."""

SLACK = 1.0
"""Seconds, or a twentieth of the duration if that is more, by which a file may end before its header says so."""

_INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"}
"""Formats in which a seek comes upon a key frame; elsewhere upon any frame, which cannot be decoded by itself."""

SAME_TIME = 1e-6
"""Seconds within which two times are one: what ffmpeg prints is rounded to this."""


class VideoError(ValueError):
    """A file that is no readable video: the message names it and says why; `reason` is the message without the file."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What the container says. `duration` in seconds; `width` and `height` upright (rotation applied).

    `fps` is the container's mean rate, 0 where it has none. `stream` is the place of the video among the file's
    streams, and `start` the file's first time stamp, from which `duration` and all times are counted.
    """

    format: str
    width: int
    height: int
    duration: float
    fps: float
    stream: int = 0
    start: float = 0.0


@dataclass(frozen=True, slots=True)
class Scan:
    """What the packets say: how many there are, and the seconds at which the last one comes and goes."""

    packets: int
    last: float
    end: float


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded frame (uint8 [H, W, 3], RGB): its number among the file's frames, and its own time in seconds."""

    index: int
    time: float
    pixels: Pixels


def probe(path: Path) -> VideoInfo:
    """Reads the header, and the packets too where it has no duration. A cover picture is no video.

    Raises VideoError.
    """
    if not path.is_file():
        raise VideoError(path, "no such file")
    if path.stat().st_size == 0:
        raise VideoError(path, "empty file")
    try:
        report: dict[str, Any] = ffmpeg.probe(f"file:{path}", cmd=_program("ffprobe", path))
    except ffmpeg.Error as error:
        fault = _fault((error.stderr or b"").decode(errors="replace").replace(f"file:{path}", ""))
        raise VideoError(path, f"not a media file that ffprobe can read: {fault}") from error
    streams = [one for one in report["streams"] if one["codec_type"] == "video"]
    streams = [one for one in streams if not one.get("disposition", {}).get("attached_pic")]
    if not streams:
        raise VideoError(path, "no video stream")
    return _info(path, streams[0], report["format"])


def _fault(log: str) -> str:
    """What ffprobe's log says is wrong, in one line: its banner and its addresses are left out."""
    said = [re.sub(r"^\[.* @ 0x\w+\] *", "", line).lstrip(": ") for line in log.strip().splitlines()]
    return "; ".join(line for line in said[-2:] if line and not line.startswith("lib")) or "unknown fault"


def _info(path: Path, stream: dict[str, Any], container: dict[str, Any]) -> VideoInfo:
    size = int(stream.get("width", 0)), int(stream.get("height", 0))
    if min(size) < 1:
        raise VideoError(path, "video stream without a picture size: the file is cut or damaged")
    width, height = size[::-1] if _is_turned(stream) else size
    numerator, denominator = (int(part) for part in stream["avg_frame_rate"].split("/"))
    fps = numerator / denominator if denominator else 0.0
    duration = float(stream.get("duration") or container.get("duration") or 0)
    if container["format_name"] == "avi" and fps:
        # ffprobe shortens the duration of a cut AVI to what is left of it; the header's frame count stays.
        # Other containers may count frames that an edit list hides, and those are rightly not played.
        duration = max(duration, int(stream.get("nb_frames", 0)) / fps)
    start = float(container.get("start_time") or 0)
    info = VideoInfo(container["format_name"], width, height, duration, fps, stream["index"], start)
    if duration > 0:
        return info
    found = scan(path, info).end
    if found <= 0:
        raise VideoError(path, "no duration in the container, and no packet with a time")
    return VideoInfo(info.format, width, height, found, fps, info.stream, start)


def _is_turned(stream: dict[str, Any]) -> bool:
    rotations = [int(side["rotation"]) for side in stream.get("side_data_list", []) if "rotation" in side]
    return bool(rotations) and rotations[0] % 180 != 0


def scan(path: Path, info: VideoInfo) -> Scan:
    """Reads the stream's packets without decoding them: a hundredth of the cost. Raises VideoError for none."""
    shown = "packet=pts_time,dts_time,duration_time,flags"
    command = [_program("ffprobe", path), "-v", "error", "-select_streams", str(info.stream), "-show_entries", shown]
    command += ["-of", "csv=p=0", f"file:{path}"]
    packets, last, end, total = 0, -math.inf, -math.inf, 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            shows, decodes, length, flags = (*line.strip().split(","), "", "", "", "")[:4]
            if not flags or "D" in flags:  # a line about the packet before; or an edit list hides this one
                continue
            packets += 1
            seconds = _number(length) or 0.0
            total += seconds
            stamp = _number(shows)
            stamp = _number(decodes) if stamp is None else stamp  # old containers give some packets only this
            if stamp is not None:
                last = max(last, stamp - info.start)
                end = max(end, stamp + seconds - info.start)
    if not packets:
        raise VideoError(path, "video stream without data: the file is cut or damaged")
    return Scan(packets, last, end) if last > -math.inf else Scan(packets, total, total)


def check_whole(path: Path, info: VideoInfo, end: float) -> None:
    """Raises VideoError if a file whose packets end at `end` seconds has lost its rest."""
    if end < info.duration - max(SLACK, 0.05 * info.duration):
        raise VideoError(path, f"video ends at {end:.1f} s of the {info.duration:.1f} s its header claims")


def sample(path: Path, info: VideoInfo, fps: float, size: Size, *, quick: bool = False) -> Iterator[Frame]:
    """The first frame in every interval of 1 / `fps` seconds, scaled to `size`, each at most once.

    The interval k goes from k / fps to (k + 1) / fps; one in which no frame begins gives none. `quick` leaves out the
    smoothing of block edges in frames that no other frame needs: the frames are the same, a little rougher, fit for
    comparing at a small size. Raises VideoError when no frame can be decoded.
    """
    begun = f"gte(t+{SAME_TIME},ld(0)/{fps!r})"
    chosen = f"if(isnan(prev_selected_t)+{begun},st(0,floor((t+{SAME_TIME})*{fps!r})+1)*0+{_TOLD},0)"
    yield from _decoded(path, info, chosen, size, quick=quick)


def pick(path: Path, info: VideoInfo, indices: Sequence[int], size: Size | None = None) -> Iterator[Frame]:
    """The frames numbered `indices` (rising), scaled to `size` or as they are; those past the end are left out."""
    yield from _decoded(path, info, f"if({_is_among(indices)},{_TOLD},0)", size)


def _is_among(indices: Sequence[int]) -> str:
    """ffmpeg's expression for `n` being one of these: by halves, as it allows no more than 100 terms in a row."""
    if len(indices) == 1:
        return f"eq(n,{indices[0]})"
    middle = len(indices) // 2
    return f"if(lt(n,{indices[middle]}),{_is_among(indices[:middle])},{_is_among(indices[middle:])})"


_TOLD = "1+0*print(n,16)+0*print(t,16)"
"""Chooses the frame, and writes its number and its time to ffmpeg's log."""

_WRITTEN = re.compile(r"\[error\] (-?\d+\.\d+|-?nan)\s*$")


def _decoded(path: Path, info: VideoInfo, chosen: str, size: Size | None, *, quick: bool = False) -> Iterator[Frame]:
    stream = _source(path, info, **({"skip_loop_filter": "noref"} if quick else {})).filter("select", chosen)
    if size is not None:
        stream = stream.filter("scale", size[1], size[0], flags="area")
    command = _command(path, stream, fps_mode="passthrough")
    numbers: Queue[float] = Queue()
    faults: deque[str] = deque(maxlen=3)
    count, shape = 0, size or (info.height, info.width)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        reader = Thread(target=_read_log, args=(process.stderr, numbers, faults), daemon=True)
        reader.start()
        try:
            for pixels in _pixels(process.stdout, shape):
                count += 1
                index, time = numbers.get(timeout=60), numbers.get(timeout=60)
                yield Frame(int(index), time, pixels)
        finally:
            process.terminate()
            process.wait()
            reader.join()
    if not count:
        raise VideoError(path, f"no frame could be decoded: {faults[-1] if faults else 'it is empty'}")


def _read_log(log: Any, numbers: Queue[float], faults: deque[str]) -> None:
    """Sorts ffmpeg's log: numbers that the choice of frames writes, and faults of the file."""
    for line in log:
        text = line.decode(errors="replace").strip()
        if found := _WRITTEN.match(text):
            numbers.put(float(found[1]))
        elif text:
            faults.append(text.replace("[error] ", ""))


def hold(
    path: Path, info: VideoInfo, fps: float, size: Size, *, start: float = 0.0, end: float | None = None
) -> Iterator[Pixels]:
    """Frames at `start`, 1 / `fps` seconds later and so on before `end`, scaled to `size`: each time's own on screen.

    Where the container has an index, what lies before the key frame before `start` is passed over. The frame that is
    on screen at `start` may be far before it.
    """
    sought = math.floor(start) if info.format in _INDEXED else 0  # whole seconds: exact in most time bases
    options: dict[str, Any] = {"ss": sought, "noaccurate_seek": None} if sought else {}
    ended = {} if end is None else {"frames:v": max(1, math.ceil((end - start) * fps - SAME_TIME))}
    stream = _source(path, info, **options)
    if start:  # in microseconds, and one less: a frame's own time, rounded, is not to come after itself
        stream = stream.filter("settb", "AVTB").filter("setpts", f"PTS-{round(1e6 * (start - sought)) + 1}")
    stream = stream.filter("fps", fps=fps, round="up", start_time=0)
    command = _command(path, stream.filter("scale", size[1], size[0], flags="area"), **ended)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            yield from _pixels(process.stdout, size)
        finally:
            process.terminate()


def _source(path: Path, info: VideoInfo, **options: Any) -> Any:
    """The video stream as ffmpeg's input. One that changes its picture size midway keeps its one chain of filters."""
    return ffmpeg.input(f"file:{path}", threads=1, reinit_filter=0, **options)[str(info.stream)]


def _command(path: Path, stream: Any, **options: Any) -> list[str]:
    program = [_program("ffmpeg", path), "-v", "repeat+level+error", "-nostdin", "-filter_complex_threads", "1"]
    output = stream.output("pipe:", format="rawvideo", pix_fmt="rgb24", **options)
    return list(output.compile(cmd=program))


def _pixels(pipe: Any, size: Size) -> Iterator[Pixels]:
    height, width = size
    while len(data := pipe.read(height * width * 3)) == height * width * 3:
        yield np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)


def fitted(height: int, width: int, longest: int) -> Size:
    """Height and width, even, with the longer side at most `longest`, never enlarged but to 2 pixels."""
    scale = min(1.0, longest / max(height, width))
    return max(2, round(height * scale / 2) * 2), max(2, round(width * scale / 2) * 2)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _program(name: str, path: Path) -> str:
    found = shutil.which(name)
    if found is None:
        raise VideoError(path, f"{name} is not on PATH: install ffmpeg")
    return found
