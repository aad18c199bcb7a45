"""The canonical decode of every kind of image, and a store that never holds half a file."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from data_engine.media import MediaError, MediaStore, decode_image, shrink, shrunk
from data_engine.probe import probe_image
from model import visual_tokens as vt
from tests.data_engine.sources.helpers import huge_png


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(mode: str, left: Any, right: Any) -> Image.Image:
    """An 8 x 4 image, one half in each of two colours."""
    image = Image.new(mode, (8, 4), left)
    image.paste(right, (4, 0, 8, 4))
    return image


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees
    pixels = decode_image(encoded(halves("RGB", "red", "blue"), "PNG", exif=exif))
    assert pixels.shape == (8, 4, 3)
    assert (pixels[0, 0] == [255, 0, 0]).all() and (pixels[7, 0] == [0, 0, 255]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_becomes_white_paper(mode: str) -> None:
    clear, ink = ((0,) * (len(mode) - 1) + (alpha,) for alpha in (0, 255))
    pixels = decode_image(encoded(halves(mode, clear, ink), "PNG"))
    assert (pixels[:, :4] == 255).all() and (pixels[:, 4:] == 0).all()


def test_half_transparent_ink_is_half_grey() -> None:
    pixels = decode_image(encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 128)), "PNG"))
    assert np.abs(pixels.astype(int) - 127).max() <= 1


def test_palette_with_a_transparent_colour() -> None:
    image = halves("P", 0, 1)
    image.putpalette([10, 20, 30, 200, 100, 50] + [0] * 750)
    pixels = decode_image(encoded(image, "PNG", transparency=0))
    assert (pixels[0, 0] == 255).all() and (pixels[0, 7] == [200, 100, 50]).all()


def test_sixteen_bits_keep_their_high_byte() -> None:
    values = np.array([[0, 256, 32768, 65535]], dtype=np.uint16)
    pixels = decode_image(encoded(Image.fromarray(values), "PNG"))
    assert pixels[0, :, 0].tolist() == [0, 1, 128, 255]
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_cmyk_is_ink_on_paper() -> None:
    pixels = decode_image(encoded(halves("CMYK", (0, 0, 0, 0), (0, 0, 0, 255)), "TIFF"))
    assert (pixels[0, 0] == 255).all() and (pixels[0, 7] == 0).all()


def test_one_picture_in_two_formats_decodes_alike() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8))
    assert (decode_image(encoded(picture, "PNG")) == decode_image(encoded(picture, "BMP"))).all()


def test_a_preview_beside_a_picture_makes_no_animation() -> None:
    picture, preview = halves("RGB", "red", "blue"), Image.new("RGB", (4, 2))
    assert probe_image(encoded(picture, "MPO", save_all=True, append_images=[preview]))["frames"] == 1
    assert probe_image(encoded(picture, "GIF", save_all=True, append_images=[preview.resize((8, 4))]))["frames"] == 2


def test_bad_images_say_what_is_wrong() -> None:
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)), "JPEG")
    with pytest.raises(MediaError, match="does not decode"):
        decode_image(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match="empty file"):
        decode_image(b"")
    with pytest.raises(MediaError, match="not an image"):
        decode_image(b"GIF, said the text file")


def test_a_header_that_claims_too_much_is_refused_before_decoding() -> None:
    with pytest.raises(MediaError, match="pixels"):
        decode_image(huge_png())


def test_shrink_keeps_the_shape_it_promises_and_never_enlarges() -> None:
    pixels = np.zeros((120, 300, 3), np.uint8)
    assert shrink(pixels, 100).shape[:2] == shrunk(120, 300, 100) == (40, 100)
    assert shrink(pixels, 1000) is pixels and shrink(pixels, None) is pixels


@given(st.integers(1, 12_000), st.integers(1, 12_000), st.integers(1, 600))
def test_shrinking_never_makes_a_strip_that_the_model_refuses(height: int, width: int, side: int) -> None:
    if max(height, width) <= vt.MAX_ASPECT_RATIO * min(height, width):
        small = shrunk(height, width, side)
        assert max(small) <= max(side, min(small)) and vt.image_size(*small, vt.VisualBudget())


FRAMES = [Image.fromarray(np.random.default_rng(n).integers(0, 255, (24, 32, 3), dtype=np.uint8)) for n in range(3)]
MORE: dict[str, Any] = {"save_all": True, "append_images": FRAMES[1:]}
EXIF = Image.Exif()
EXIF[0x0112] = 6
WHOLE = {
    **{kind: encoded(FRAMES[0], kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "DDS", "JPEG2000")},
    **{f"{kind} of frames": encoded(FRAMES[0], kind, **MORE) for kind in ("PNG", "GIF", "WEBP", "TIFF", "MPO")},
    **{f"TIFF {name}": encoded(FRAMES[0], "TIFF", compression=f"tiff_{name}") for name in ("lzw", "adobe_deflate")},
    **{kind: encoded(FRAMES[0], kind) for kind in ("PPM", "TGA", "PCX", "SGI", "ICO")},
    "JPEG with EXIF": encoded(FRAMES[0], "JPEG", exif=EXIF),
    "palette": encoded(FRAMES[0].convert("P"), "PNG", transparency=0),
    **({"AVIF": encoded(FRAMES[0], "AVIF")} if features.check("avif") else {}),
}


def pixels_or_reason(data: bytes) -> str | None:
    """The reason why these bytes are no image, or None; whatever else is raised fails the test."""
    try:
        probe_image(data)
    except MediaError as error:
        return str(error)
    return None


@settings(max_examples=500)
@given(
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=20),
    st.just(1.0) | st.floats(0, 1),
)
def test_damage_of_any_kind_is_told_and_nothing_else_is_raised(
    kind: str, edits: list[tuple[float, int]], cut: float
) -> None:
    data = bytearray(WHOLE[kind])
    for place, byte in edits:
        data[int(place**3 * len(data))] = byte  # oftener near the beginning, where the structure is
    assert pixels_or_reason(bytes(data[: int(cut * len(data))])) != ""


@pytest.mark.parametrize("kind", sorted(WHOLE))
def test_a_file_that_ends_anywhere_is_told(kind: str) -> None:
    whole = WHOLE[kind]
    assert pixels_or_reason(whole) is None
    reasons = [pixels_or_reason(whole[:size]) for size in range(0, len(whole), 1 + len(whole) // 80)]
    assert reasons[0] == "empty file" and "" not in reasons


@pytest.mark.parametrize("kind", sorted(WHOLE))
def test_a_byte_of_the_header_that_is_wrong_is_told_or_harmless(kind: str) -> None:
    whole = WHOLE[kind]
    for place in range(min(200, len(whole))):
        damaged = whole[:place] + bytes([whole[place] ^ 0x91]) + whole[place + 1 :]
        assert pixels_or_reason(damaged) != ""


def test_the_store_keeps_content_once_under_its_hash(tmp_path: Path) -> None:
    store = MediaStore(tmp_path / "media")
    (tmp_path / "a.PNG").write_bytes(b"content")
    key = store.put_bytes(b"content", ".png")
    assert store.put_file(tmp_path / "a.PNG") == key
    assert store.read(key) == b"content"
    assert [file.name for file in (tmp_path / "media").rglob("*") if file.is_file()] == [key]


@pytest.mark.parametrize("key", ["../../etc/passwd", "", "ab", "/" + "a" * 64])
def test_what_is_not_a_key_reaches_no_file(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="not a media key"):
        MediaStore(tmp_path).read(key)
