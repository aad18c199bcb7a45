"""The perceptual hash of stored pictures: imagehash's own where nothing is scaled, within a few bits where it is."""

import io
from collections.abc import Callable
from typing import Any

import imagehash
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from data_engine import image_measures
from data_engine.image_measures import phash, phash_file
from data_engine.media import MediaError, decode_grey, decode_image, shrink
from data_engine.probe import probe_image
from tests.data_engine.sources.helpers import huge_png
from tests.data_engine.test_media import encoded

Pixels = npt.NDArray[np.uint8]


def peer(picture: Image.Image) -> int:
    return int(str(imagehash.phash(picture)), 16)


def apart(one: int, other: int) -> int:
    return (one ^ other).bit_count()


@pytest.fixture(scope="module")
def photos(corpora: Any) -> list[Pixels]:
    """Real stamps, cut-outs on paper, and photos of text in the wild."""
    files = sorted((corpora / "stamps").rglob("*.png"))[::12]
    files += [file for file in sorted((corpora / "scene_text").rglob("*")) if file.suffix in {".jpg", ".png"}]
    return [decode_image(file.read_bytes()) for file in files]


@pytest.mark.parametrize("quality", [30, 60, 90])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_hash_as_imagehash_hashes_them(photos: list[Pixels], mode: str, quality: int) -> None:
    """Mirrored drawings have terms about zero, whose signs no two decoders share: hence the mean and the share."""
    files = [encoded(Image.fromarray(pixels).convert(mode), "JPEG", quality=quality) for pixels in photos]
    expected = [peer(Image.open(io.BytesIO(data)).convert("RGB")) for data in files]
    for hashed in ([phash_file(data) for data in files], [phash(decode_image(data)) for data in files]):
        distance = np.array([apart(one, other) for one, other in zip(hashed, expected, strict=True)])
        assert distance.mean() < 1.5 and (distance <= 6).mean() > 0.95


def test_the_two_ways_to_a_hash_agree(photos: list[Pixels]) -> None:
    files = [encoded(Image.fromarray(pixels), "JPEG", quality=80) for pixels in photos]
    distance = np.array([apart(phash_file(data), phash(decode_image(data))) for data in files])
    assert distance.mean() < 1.5 and (distance <= 4).mean() > 0.95
    other = np.array([apart(phash_file(one), phash_file(two)) for one, two in zip(files, files[1:], strict=False)])
    assert np.median(other) > 20


def test_where_nothing_is_scaled_the_hash_is_imagehashs(photos: list[Pixels]) -> None:
    small = [Image.fromarray(pixels).resize((120, 90)) for pixels in photos]
    equal = [phash_file(encoded(picture, "PNG")) == peer(picture) for picture in small]
    # The rest are mirrored: their zero terms are imagehash's rounding errors.
    assert np.mean(equal) > 0.95
    assert all(phash(np.asarray(picture)) == phash_file(encoded(picture, "PNG")) for picture in small)


def test_the_probe_keeps_the_hash_of_the_whole_decode(photos: list[Pixels]) -> None:
    for pixels in photos[:5]:
        found = probe_image(encoded(Image.fromarray(pixels), "JPEG", quality=80))
        whole = decode_image(encoded(Image.fromarray(pixels), "JPEG", quality=80))
        assert found["phash"] == phash(whole) and found["pixel_hash"] == image_measures.pixel_hash(whole)


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: encoded(picture.resize((picture.width * 2, picture.height * 2)), "PNG"),
        lambda picture: encoded(picture.resize((240, 190)), "JPEG", quality=50),
        lambda picture: encoded(picture, "WEBP", quality=60),
        lambda picture: encoded(picture.convert("RGBA"), "PNG"),
        lambda picture: encoded(picture.convert("P", palette=Image.Palette.ADAPTIVE), "GIF"),
    ],
)
def test_a_picture_in_another_file_stays_near(photos: list[Pixels], change: Callable[[Image.Image], bytes]) -> None:
    pictures = [Image.fromarray(shrink(pixels, 300)) for pixels in photos]
    distance = np.array([apart(phash_file(change(picture)), phash(np.asarray(picture))) for picture in pictures])
    assert np.median(distance) <= 2 and (distance <= 8).mean() > 0.95


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2000, 10), (10, 2000), (63, 129), (500, 3)])
def test_odd_sizes_have_a_hash(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    assert apart(phash_file(encoded(picture, "PNG")), phash(noise)) == 0
    assert 0 <= phash_file(encoded(picture, "JPEG")) < 2**64


def test_flat_and_mirrored_pictures_have_no_chance_bits() -> None:
    assert {phash(np.full((64, 64, 3), shade, np.uint8)) for shade in range(1, 256, 9)} == {1 << 63}
    half = np.random.default_rng(2).integers(0, 255, (64, 32), dtype=np.uint8)
    mirrored = phash(np.concatenate([half, half[:, ::-1]], axis=1))
    assert mirrored & sum(0b01010101 << 8 * row for row in range(8)) in (0, 0x5555555555555555)


def test_orientation_and_transparency_count() -> None:
    picture = Image.fromarray(np.random.default_rng(3).integers(0, 255, (90, 160, 3), dtype=np.uint8)).resize(
        (640, 360)
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(picture, "JPEG", quality=95, exif=exif)
    assert decode_grey(turned, 64).shape == (160, 90)
    assert apart(phash_file(turned), phash(decode_image(turned))) <= 4
    assert apart(phash_file(turned), phash_file(encoded(picture, "JPEG", quality=95))) > 16
    grey = Image.new("L", (40, 40), 0)
    grey.paste(200, (0, 0, 20, 40))
    clear = encoded(grey, "PNG", transparency=0)
    assert decode_grey(clear, 64)[:, 20:].min() == 255 and phash_file(clear) == phash(decode_image(clear))


def test_bad_files_are_refused_as_by_the_whole_decode() -> None:
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)), "JPEG")
    for bad in (whole[: len(whole) // 2], b"", b"text", huge_png()):
        reasons = []
        for hashed in (phash_file, decode_image):
            with pytest.raises(MediaError) as error:
                hashed(bad)
            reasons.append(str(error.value).split(":")[0])
        assert reasons[0] == reasons[1]


def test_grey_and_sharpness_are_those_of_pillow_and_numpy(photos: list[Pixels]) -> None:
    for pixels in photos[:8]:
        grey = np.asarray(Image.fromarray(pixels).convert("L"))
        np.testing.assert_array_equal(image_measures.to_grey(pixels), grey)
        g = grey.astype(np.float64)
        laplacian = g[:-2, 1:-1] + g[2:, 1:-1] + g[1:-1, :-2] + g[1:-1, 2:] - 4 * g[1:-1, 1:-1]
        found = image_measures.measure(pixels)
        assert found["sharpness"] == pytest.approx(laplacian.var(), rel=1e-9)
        assert found["luma"] == pytest.approx(g.mean(), rel=1e-12)
