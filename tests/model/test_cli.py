"""Plans of real video files: decoded by ffmpeg, written by ffmpeg here with planted content."""

import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from model.cli import app
from model.decoding import VideoError, probe, sample
from model.video_plan import plan_file
from model.visual_tokens import visual_budget

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg on PATH")
RUN = CliRunner()


def write(path: Path, frames: np.ndarray, fps: int = 10) -> Path:
    """A lossless video of `frames` [N, H, W, 3]."""
    _, height, width, _ = frames.shape
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    command += ["-r", str(fps), "-i", "pipe:", "-c:v", "ffv1", "-pix_fmt", "bgr0", str(path)]
    subprocess.run(command, input=frames.tobytes(), check=True)
    return path


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    """43 grey frames at 10 a second, frame i of level 5 i."""
    levels = 5 * np.arange(43, dtype=np.uint8)
    return write(tmp_path / "counter.mkv", np.broadcast_to(levels[:, None, None, None], (43, 48, 64, 3)).copy())


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """4 seconds: two of one noise picture, then two of another: one cut, at 2.0 s."""
    random = np.random.default_rng(0)
    shots = random.integers(0, 256, (2, 240, 320, 3), dtype=np.uint8)
    return write(tmp_path / "cut.mkv", shots.repeat(20, axis=0))


@pytest.mark.parametrize(("fps", "shown"), [(2, [0, 5, 10, 15, 20, 25, 30, 35, 40]), (0.7, [0, 15, 29])])
def test_a_frame_is_the_first_of_its_interval(counter: Path, fps: float, shown: list[int]) -> None:
    frames = list(sample(counter, probe(counter), fps, (24, 32)))
    assert [frame.pixels.shape for frame in frames] == [(24, 32, 3)] * len(shown)
    assert [round(float(frame.pixels.mean()) / 5) for frame in frames] == [frame.index for frame in frames] == shown
    assert [frame.time for frame in frames] == pytest.approx([index / 10 for index in shown])


def test_probe_reads_size_and_duration(counter: Path) -> None:
    info = probe(counter)
    assert (info.height, info.width) == (48, 64)
    assert info.duration == pytest.approx(4.3)


def test_plan_finds_the_cut(cut: Path) -> None:
    result = RUN.invoke(app, ["plan", str(cut), "--json", "--budget", "300"])
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert [frame["kind"] for frame in data["frames"]] == ["slow", *["fast"] * 3, "slow", *["fast"] * 3]
    assert [frame["time"] for frame in data["frames"]] == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    assert [frame["index"] for frame in data["frames"]] == list(range(0, 40, 5))
    assert (data["slow_frames"], data["fast_frames"], data["budget"]) == (2, 6, 300)
    assert data["total_tokens"] == sum(frame["tokens"] for frame in data["frames"]) <= 300
    assert all(f["tokens"] == f["height"] * f["width"] // 784 for f in data["frames"])


def test_too_many_frames_are_spread_over_the_whole_video(cut: Path) -> None:
    budget = visual_budget("tiny")
    planned = plan_file(cut, type(budget)(fps=10, max_frames=4, frame_max_tokens=16))
    assert planned.times == [0, 1, 2, 3]
    assert planned.frames == []


def test_a_clip_too_long_for_its_floor_is_sampled_more_thinly_and_says_so(cut: Path) -> None:
    """Eight frames, two of them slow, need 48 * (2 + 0.3 * 6) tokens at the floor: 182."""
    arguments = ["plan", str(cut), "--budget"]
    assert "sampled at" not in RUN.invoke(app, [*arguments, "300"]).stdout
    data = json.loads(RUN.invoke(app, [*arguments, "130", "--json"]).stdout)
    assert 0 < data["fps"] < 2 and data["total_tokens"] <= 130
    times = [frame["time"] for frame in data["frames"]]
    assert 2 <= len(times) < 8 and times[0] == 0 and times[-1] >= 2
    assert all(abs(later - earlier - 1 / data["fps"]) <= 0.1 for earlier, later in pairwise(times))
    assert all(frame["tokens"] >= 48 for frame in data["frames"] if frame["kind"] == "slow")
    assert "frames a second, not 2" in RUN.invoke(app, [*arguments, "130"]).stdout


@pytest.mark.parametrize(("preset", "budget"), [("paper", 75_000), ("released", 65_536), ("tiny", 512), ("8b", 75_000)])
def test_presets_of_slow_fast_and_of_models_share_an_option(cut: Path, preset: str, budget: int) -> None:
    data = json.loads(RUN.invoke(app, ["plan", str(cut), "--json", "--preset", preset]).stdout)
    assert data["budget"] == budget >= data["total_tokens"]
    assert data["slow_frames"] == (1 if preset == "released" else 2)  # noise and other noise are one to the package


def test_planning_imports_neither_torch_nor_transformers(cut: Path) -> None:
    code = "import sys; from model.video_plan import plan_file; from model.visual_tokens import SLOW_FAST; "
    code += "[plan_file(__import__('pathlib').Path(sys.argv[1]), budget) for budget in SLOW_FAST.values()]; "
    code += "print(sorted({'torch', 'transformers', 'cv2'} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, cut], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


def test_the_film_strip_shows_every_frame(cut: Path, tmp_path: Path) -> None:
    """Two slow frames in the colour of slow frames and six in that of fast ones: edges are counted."""
    target = tmp_path / "strip.png"
    assert RUN.invoke(app, ["plan", str(cut), "--image", str(target)]).exit_code == 0
    strip = np.asarray(Image.open(target))
    for colour, count in (((0xF2, 0xA3, 0x3A), 2), ((0x5B, 0x7F, 0xA6), 6)):
        row = (strip == colour).all(-1)
        edges = [(np.diff(line.astype(int)) == 1).sum() + line[0] for line in row]
        assert max(edges) >= 2 * count


def test_the_table_has_every_frame_with_its_time_grid_and_tokens(cut: Path) -> None:
    frames = json.loads(RUN.invoke(app, ["plan", str(cut), "--json"]).stdout)["frames"]
    rows = [line.split("│")[1:-1] for line in RUN.invoke(app, ["plan", str(cut)]).stdout.splitlines() if "│" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        [str(one["index"]), f"{one['time']:.2f}", one["kind"], f"{one['height'] // 28} x {one['width'] // 28}",
         str(one["tokens"])]
        for one in frames
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["missing.mp4"], "missing.mp4: no such file"),
        (["{cut}", "--preset", "huge"], "no model preset 'huge'"),
        (["{cut}", "--budget", "3"], "the budget is 3"),
        (["{cut}", "--budget", "3"], "cut.mkv: "),
        (["{cut}", "--image", "strip.txt"], "--image strip.txt: name a .png"),
        (["{cut}", "--image", "no/strip.png"], "--image no/strip.png: no folder no"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(cut: Path, arguments: list[str], reason: str) -> None:
    result = RUN.invoke(app, ["plan", *(argument.format(cut=cut) for argument in arguments)])
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("no video")
    with pytest.raises(VideoError, match=r"text\.mp4: not a media file"):
        probe(path)


def test_info_lists_every_preset() -> None:
    result = RUN.invoke(app, ["info"])
    assert result.exit_code == 0
    assert "8,643.8 M" in result.stdout
    assert RUN.invoke(app, ["info", "huge"]).exit_code == 2


def test_info_of_a_preset_and_of_a_folder_agree(model: Any, processor: Any, tmp_path: Path) -> None:
    """A saved tiny model differs from its preset by its vocabulary alone, and says that its base was reset."""
    model.reset_rope(8e6, 4096)
    model.save_pretrained(tmp_path / "mine")
    processor.save_pretrained(tmp_path / "mine")
    result = RUN.invoke(app, ["info", str(tmp_path / "mine")])
    assert result.exit_code == 0, result.stderr
    assert "base 10,000 to 8,000,000" in result.stdout and "4,096 tokens" in result.stdout
    assert f"{sum(p.numel() for p in model.parameters()) / 1e6:,.1f} M" in result.stdout


def test_a_model_goes_out_and_in_and_is_merged(model: Any, processor: Any, tmp_path: Path) -> None:
    """By the commands a user types; a second time into the same folder is one line and exit code 2."""
    import torch
    from transformers import AutoModelForImageTextToText

    model.save_pretrained(tmp_path / "mine")
    processor.save_pretrained(tmp_path / "mine")
    assert RUN.invoke(app, ["export", str(tmp_path / "mine"), "--out", str(tmp_path / "out")]).exit_code == 0
    result = RUN.invoke(app, ["import", str(tmp_path / "out"), "--out", str(tmp_path / "back")])
    assert result.exit_code == 0 and "nothing left over" in result.stdout and "checksums agree" in result.stdout
    again = RUN.invoke(app, ["import", str(tmp_path / "out"), "--out", str(tmp_path / "back")])
    assert again.exit_code == 2 and "exists already" in again.stderr and again.stderr.count("\n") == 1
    recipe = tmp_path / "merge.yaml"
    recipe.write_text("method: linear\nmodels: [{path: mine}, {path: back}]\n")
    merged = RUN.invoke(app, ["merge", str(recipe), "--out", str(tmp_path / "merged")])
    assert merged.exit_code == 0, merged.stderr
    found = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged").state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in model.state_dict().items())
    recipe.write_text("metod: linear\nmodels: [{path: mine}]\n")
    wrong = RUN.invoke(app, ["merge", str(recipe), "--out", str(tmp_path / "other")])
    assert wrong.exit_code == 2 and "did you mean 'method'" in wrong.stderr
