"""Slow-fast: what `plan` costs beside plain decoding and keye-vl-utils 1.5.2, and what the similarities find.

python benchmarks/slow_fast.py [--rounds 3] [--only speed|memory|changes]

Fetches PyAV, keye-vl-utils with decord, and TransNetV2 into the cache. Writes build/bench/slow_fast.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
from measuring import planted, save  # noqa: E402

from model.decoding import probe, scan  # noqa: E402
from tests import films  # noqa: E402

PLAN = """
import json, resource, sys
from model.cli import app
try:
    app(["plan", *sys.argv[1:], "--json"])
finally:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cost = {"cpu_s": sum(one.ru_utime + one.ru_stime for one in used), "peak_kb": sum(one.ru_maxrss for one in used)}
    print(json.dumps(cost), file=sys.stderr)
"""
PYAV = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
import av
container = av.open(sys.argv[2])
stream = container.streams.video[0]
stream.thread_type, stream.codec_context.thread_count = sys.argv[3], int(sys.argv[4])
frames = sum(1 for _ in container.decode(stream))
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"frames": frames, "cpu_s": used.ru_utime + used.ru_stime}), file=sys.stderr)
"""
FFMPEG = """
import json, resource, subprocess, sys
command = ["ffmpeg", "-v", "fatal", "-threads", sys.argv[2], "-i", sys.argv[1], "-an", "-f", "null", "-"]
subprocess.run(command, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime}), file=sys.stderr)
"""


def run(code: str, *arguments: str | Path) -> dict[str, Any]:
    """Runs code in a process of its own; what it wrote last is its cost."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stderr.strip().splitlines()[-1])
    return found


def repeated(video: Path, times: int, target: Path) -> Path:
    """The video so many times, one after the other, by stream copy."""
    listing = target.with_suffix(".txt")
    listing.write_text(f"file '{video}'\n" * times)
    command = ["ffmpeg", "-v", "error", "-y", "-f", "concat", "-safe", "0", "-i", str(listing), "-c", "copy", "-an"]
    subprocess.run([*command, str(target)], check=True)
    return target


def speed(folder: Path, rounds: int) -> dict[str, Any]:
    """All sides by turns on ten minutes of 720p: the film's first five, twice."""
    video = repeated(films.film(), 2, folder / "ten.mp4")
    av = films.oracle("av-18.1.0", "av==18.1.0")
    frames = scan(video, probe(video)).packets
    sides = {
        "plan": lambda: run(PLAN, video),
        "ffmpeg, 1 thread": lambda: run(FFMPEG, video, "1"),
        "ffmpeg, its default threads": lambda: run(FFMPEG, video, "0"),
        "PyAV 18.1.0, 1 thread": lambda: run(PYAV, av, video, "NONE", "1"),
    }
    costs: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            costs[name].append(side())
    used = {name: statistics.median(one["cpu_s"] for one in found) for name, found in costs.items()}
    package = films.oracle("keye-vl-utils-1.5.2", "keye-vl-utils==1.5.2", "decord==0.6.0")
    driver = ROOT / "tests/model/keye_vl_utils_oracle.py"
    done = subprocess.run([sys.executable, driver, package, video], capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout)
    best = min((name for name in used if name != "plan"), key=lambda name: used[name])
    peak = max(one["peak_kb"] for one in costs["plan"])
    for name, seconds in used.items():
        print(f"{name}: {seconds:.1f} CPU-s, {frames / seconds:.0f} frames a CPU-s")
    print(f"keye-vl-utils 1.5.2: {theirs['cpu_s']:.1f} CPU-s, {theirs['peak_kb'] / 1024:,.0f} MB")
    print(
        f"plan reaches {used[best] / used['plan']:.0%} of the fastest decode ({best}); {peak / 1024:.0f} MB", end="; "
    )
    print(f"{used['plan'] / theirs['cpu_s']:.2f} of the package's CPU-s, {peak / theirs['peak_kb']:.1%} of its memory")
    return {
        "frames": frames,
        "cpu_s": {**used, "keye-vl-utils 1.5.2": theirs["cpu_s"]},
        "fastest decode": best,
        "share of it": round(used[best] / used["plan"], 3),
        "share of the package's CPU-s": round(used["plan"] / theirs["cpu_s"], 3),
        "share of the package's peak memory": round(peak / theirs["peak_kb"], 4),
        "peak_mb": round(peak / 1024),
    }


def memory(folder: Path) -> dict[str, Any]:
    """Ten seconds, ten minutes and ten hours at 64 x 36 and 24 frames a second: 864,000 frames, so packets count.

    In Matroska, and in MP4, of which ffmpeg keeps the table of all samples in memory.
    """
    small = folder / "small.mp4"
    shrink = ["-vf", "scale=64:36", "-c:v", "libx264", "-preset", "veryfast", "-an"]
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", films.film(), "-t", "300", *shrink, small], check=True)
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", small, "-t", "10", "-c", "copy", folder / "s.mp4"], check=True)
    lengths = {"10 s, mp4": folder / "s.mp4"}
    lengths |= {name: repeated(small, n, folder / f"{n}.mp4") for name, n in (("10 min, mp4", 2), ("10 h, mp4", 120))}
    lengths |= {
        "10 min, mkv": repeated(small, 2, folder / "2.mkv"),
        "10 h, mkv": repeated(small, 120, folder / "120.mkv"),
    }
    peaks = {name: round(run(PLAN, video)["peak_kb"] / 1024, 1) for name, video in lengths.items()}
    print("peak memory of plan, Python and ffmpeg together, MB:", peaks)
    return {"peak_mb": peaks}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["speed", "memory", "changes"])
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        if options.only in {None, "changes"}:
            figures["changes"] = planted.changes(Path(scratch))
        if options.only in {None, "memory"}:
            figures["memory"] = memory(Path(scratch))
        if options.only in {None, "speed"}:
            figures["speed"] = speed(Path(scratch), options.rounds)
    save("slow_fast" if options.only is None else f"slow_fast_{options.only}", figures)
