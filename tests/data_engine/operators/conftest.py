"""A scorer that learnt something small and true: colours of shapes, trained here in seconds by the real trainer."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

COLOURS = {
    "red": ("红", (220, 30, 30)), "green": ("绿", (30, 160, 60)), "blue": ("蓝", (40, 60, 220)),
    "yellow": ("黄", (240, 220, 40)), "black": ("黑", (15, 15, 15)), "pink": ("粉", (250, 150, 190)),
    "brown": ("棕", (120, 70, 30)), "grey": ("灰", (130, 130, 130)),
}  # fmt: skip


def draw(colour: str, form: int) -> Image.Image:
    """One of twelve forms in a colour on white: each is a category of its own."""
    image = Image.new("RGB", (64, 64), "white")
    pen, fill = ImageDraw.Draw(image), COLOURS[colour][1]
    random = np.random.default_rng(form)
    for _ in range(3 + form % 4):
        x, y = random.integers(0, 30, 2).tolist()
        corners = (x, y, x + 20 + 2 * form, y + 34)
        (pen.ellipse if form % 2 else pen.rectangle)(corners, fill=fill)
    return image


@pytest.fixture(scope="session")
def coloured_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve folders, in each a picture of every colour with a caption in English and Chinese."""
    root = tmp_path_factory.mktemp("coloured")
    for form in range(12):
        (root / f"form{form}").mkdir()
        for colour, (chinese, _) in COLOURS.items():
            draw(colour, form).save(root / f"form{form}" / f"{colour}.png")
            caption = f"A {colour} thing.\nzh_CN.utf8={chinese}色的东西。\n"
            (root / f"form{form}" / f"{colour}.txt").write_text(caption, encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def scorer(coloured_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a scorer that knows colours."""
    from data_engine.models import train_two_tower

    out = tmp_path_factory.mktemp("scorer")
    train_two_tower.main(coloured_shapes, out, seconds=600, max_steps=120)
    return out


@pytest.fixture(scope="session")
def random_towers(coloured_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a scorer that has learnt nothing."""
    from data_engine.models import train_two_tower

    out = tmp_path_factory.mktemp("random")
    train_two_tower.main(coloured_shapes, out, seconds=600, max_steps=1)
    return out
