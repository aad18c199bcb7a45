"""A sheet for the eye: a row of items for each kind, with question and answer."""

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from data_engine.clips import Clip
from data_engine.media import decode_image
from eval.minibench.items import KINDS, Item

SIDE = 192
"""Pixels of a picture's longer side on the sheet."""

GAP = 12
WORDS_HEIGHT = 74
FRAMES = 4
"""A clip is shown whole, in rows of four frames."""


def sheet(items: Sequence[Item], columns: int = 7) -> Image.Image:
    """`columns` items of each kind, spread evenly over it, one kind a row."""
    rows = [spread([item for item in items if item.kind == kind], columns) for kind in KINDS]
    width, height = SIDE + GAP, SIDE + WORDS_HEIGHT + GAP
    page = Image.new("RGB", (columns * width + GAP, len(rows) * height + GAP), (206, 206, 206))
    for row, chosen in enumerate(rows):
        for column, item in enumerate(chosen):
            page.paste(_tile(item), (GAP + column * width, GAP + row * height))
    return page


def spread(items: Sequence[Item], num: int) -> list[Item]:
    """Up to `num` items at even distances."""
    return [items[int((place + 0.5) * len(items) / num)] for place in range(num)] if len(items) > num else list(items)


def _tile(item: Item) -> Image.Image:
    tile = Image.new("RGB", (SIDE, SIDE + WORDS_HEIGHT), (206, 206, 206))
    shown = picture(item.media, SIDE)
    tile.paste(shown, ((SIDE - shown.width) // 2, (SIDE - shown.height) // 2))
    brush, font = ImageDraw.Draw(tile), ImageFont.load_default(12)
    lines = textwrap.wrap(item.question, 30)
    brush.text((0, SIDE + 4), "\n".join(lines), fill=(60, 60, 60), font=font)
    brush.text((0, SIDE + 6 + 15 * len(lines)), item.answer, fill=(0, 0, 0), font=ImageFont.load_default(14))
    return tile


def picture(media: bytes | Clip, side: int) -> Image.Image:
    """A picture, or a clip's frames in rows of FRAMES with their seconds, `side` pixels at its longer side."""
    if isinstance(media, bytes):
        return _fitted(Image.fromarray(decode_image(media)), side)
    small = [_fitted(Image.fromarray(decode_image(frame)), side // FRAMES - 1) for frame in media.frames]
    width, height = small[0].width + 1, small[0].height + 1
    page = Image.new("RGB", (FRAMES * width, -(-len(small) // FRAMES) * height), (90, 90, 90))
    for index, (frame, time) in enumerate(zip(small, media.times, strict=True)):
        ImageDraw.Draw(frame).text((1, 0), f"{time:g}", fill=(110, 110, 110), font=ImageFont.load_default(9))
        page.paste(frame, (index % FRAMES * width, index // FRAMES * height))
    return page


def _fitted(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BOX)
