"""The benchmark as files: everything items.jsonl names is there, and nothing half-written is."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_engine.clips import Clip
from eval.cli import app
from eval.minibench.export import ExportError, export
from eval.minibench.items import KINDS, items
from eval.minibench.scene import draw
from eval.minibench.sheet import SIDE, picture, sheet, spread


def test_the_files_hold_the_items(tmp_path: Path) -> None:
    made = items(0, 2)
    out = export(made, tmp_path / "bench")
    rows = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [item.id for item in made]
    for row, item in zip(rows, made, strict=True):
        assert (row["question"], row["answer"], tuple(row["choices"])) == (item.question, item.answer, item.choices)
        for media, name in ((item.media, "media"), (item.blank, "blank")):
            if isinstance(media, Clip):
                assert [(out / path).read_bytes() for path in row[name]["frames"]] == media.frames
                assert (row[name]["times"], row[name]["is_slow"]) == (media.times, media.is_slow)
            else:
                assert (out / row[name]["picture"]).read_bytes() == media
    assert [path.name for path in tmp_path.iterdir()] == ["bench"]


def test_two_exports_are_never_mixed(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="exists already; give another folder"):
        export(items(0, 1), tmp_path)
    result = CliRunner().invoke(app, ["minibench", "--out", str(tmp_path), "--per-kind", "1"])
    assert result.exit_code == 2 and "exists already" in result.output


def test_the_command_writes_what_was_asked_for(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["minibench", "--out", str(tmp_path / "b"), "--per-kind", "1", "--seed", "4"])
    assert result.exit_code == 0, result.output
    ids = [json.loads(line)["id"] for line in (tmp_path / "b/items.jsonl").read_text().splitlines()]
    assert ids == [item.id for item in items(4, 1)]


def test_the_sheet_has_a_row_a_kind_with_every_picture_on_it() -> None:
    made = items(0, 2)
    page = np.asarray(sheet(made, columns=2))
    assert page.shape[0] > len(KINDS) * SIDE and page.shape[1] > 2 * SIDE
    shown = np.asarray(picture(made[0].media, SIDE))
    height, width = shown.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(page[: SIDE + 30, : SIDE + 30], shown.shape)[:, :, 0]
    assert (windows == shown).all(axis=(2, 3, 4)).any(), f"the first picture, {height} x {width}, is not on the sheet"


def test_a_clip_is_shown_whole() -> None:
    clip = next(item.media for item in items(0, 1) if isinstance(item.media, Clip))
    assert isinstance(clip, Clip)
    page = picture(clip, SIDE)
    assert max(page.size) == SIDE and len(clip.frames) == 16
    cell = (page.width // 4, page.height // 4)
    cells = {
        page.crop((x * cell[0], y * cell[1], (x + 1) * cell[0], (y + 1) * cell[1])).tobytes()
        for x in range(4)
        for y in range(4)
    }
    assert len(cells) == 16  # each has its own second written on it


def test_spread_keeps_the_order_and_the_distance() -> None:
    made = items(0, 5)
    assert [made.index(item) for item in spread(made, 3)] == [5, 15, 25]
    assert spread(made[:2], 3) == made[:2]


def test_edges_are_smooth_and_flat_areas_exact() -> None:
    from eval.minibench.scene import Scene, Shape

    background, color = (250, 240, 230), (255, 0, 0)
    pixels = draw(Scene(60, 40, background, (Shape("circle", "red", color, 30, 20, 12),)))
    assert Image.fromarray(pixels).size == (60, 40)
    inside = (pixels == color).all(axis=2).sum()
    edge = 60 * 40 - inside - (pixels == background).all(axis=2).sum()
    assert 0 < edge < 120
    assert np.pi * 11**2 < inside < np.pi * 12.5**2
    area = (np.array(background) - pixels).sum() / (
        np.array(background) - color
    ).sum()  # covered pixels, partly or whole
    assert area == pytest.approx(np.pi * 12**2, rel=0.03)
