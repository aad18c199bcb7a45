"""What can be measured of one image's pixels: hashes for deduplication, entropy, sharpness."""

import functools

import numba
import numpy as np
import numpy.typing as npt
import xxhash
from PIL import Image

from data_engine.media import decode_grey

Pixels = npt.NDArray[np.uint8]

# Sides are averaged down to at least this before the hash's own filter: twice what it makes of them.
HASH_SIDE = 64
# Above the rounding of the transform (1e-9), below any difference of pixels (0.05): flat and mirrored pictures have
# terms that are zero, and their signs would be noise.
_NOISE = 1e-5


@functools.cache
def _dct_rows(size: int, rows: int) -> npt.NDArray[np.float64]:
    """The first `rows` basis vectors of the type-II discrete cosine transform, [rows, size]."""
    k, n = np.arange(rows)[:, None], np.arange(size)[None, :]
    return 2 * np.cos(np.pi * k * (2 * n + 1) / (2 * size))


def phash(pixels: Pixels) -> int:
    """The 64-bit perceptual hash: signs of the 8x8 lowest DCT terms of the 32x32 grey image about their median.

    `pixels` are RGB [H, W, 3] or grey [H, W]. Bit order and filter are those of the imagehash package, and so is the
    hash of a picture of less than 128 pixels a side; larger ones are first averaged over blocks, which costs a fifth
    and changes a bit or two.
    """
    grey = Image.fromarray(pixels if pixels.ndim == 2 else to_grey(pixels))
    blocks = max(1, grey.width // HASH_SIDE), max(1, grey.height // HASH_SIDE)
    small = grey.reduce(blocks).resize((32, 32), Image.Resampling.LANCZOS)
    basis = _dct_rows(32, 8)
    low = (basis @ np.asarray(small, np.float64) @ basis.T).ravel()
    ordered = np.sort(low)
    bits = low > (ordered[31] + ordered[32]) / 2 + _NOISE
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def phash_file(data: bytes) -> int:
    """`phash` of an encoded picture that is needed for nothing else: a JPEG is averaged by its own decoder, within a
    few bits of the whole decode's hash at a third of its cost. Raises MediaError.
    """
    return phash(decode_grey(data, HASH_SIDE))


def to_grey(pixels: Pixels) -> Pixels:
    """RGB [H, W, 3] to luma [H, W] (ITU-R 601-2), to the bit as Pillow does."""
    grey: Pixels = _luma(pixels)
    return grey


@numba.njit(cache=True)
def _luma(pixels):  # type: ignore[no-untyped-def]
    height, width = pixels.shape[:2]
    grey = np.empty((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            red, green, blue = np.int32(pixels[y, x, 0]), np.int32(pixels[y, x, 1]), np.int32(pixels[y, x, 2])
            grey[y, x] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return grey


def pixel_hash(pixels: Pixels) -> str:
    """A hash of the decoded picture: equal for one picture in two file formats."""
    return xxhash.xxh128_hexdigest(np.ascontiguousarray(pixels).data) + f"-{pixels.shape[1]}x{pixels.shape[0]}"


def shades(grey: Pixels) -> npt.NDArray[np.int64]:
    """How often each of the 256 shades occurs."""
    return np.array(Image.fromarray(grey).histogram(), np.int64)


def entropy(grey: Pixels) -> float:
    """Shannon entropy of the grey histogram in bits, 0 (one shade) to 8."""
    return _entropy(shades(grey))


def _entropy(counts: npt.NDArray[np.int64]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return max(0.0, float(-(shares * np.log2(shares)).sum()))


def sharpness(grey: Pixels) -> float:
    """Variance of the Laplacian, the usual focus measure: near 0 for a blurred or empty image."""
    if min(grey.shape) < 3:
        return 0.0
    total, squares = _laplacian_sums(grey)
    count = (grey.shape[0] - 2) * (grey.shape[1] - 2)
    return float((squares * count - total * total) / count**2)  # whole numbers up to here


@numba.njit(cache=True)
def _laplacian_sums(grey):  # type: ignore[no-untyped-def]
    """(sum, sum of squares) of the Laplacian over all pixels that have four neighbours."""
    total, squares = np.int64(0), np.int64(0)
    for y in range(1, grey.shape[0] - 1):
        for x in range(1, grey.shape[1] - 1):
            around = np.int32(grey[y - 1, x]) + np.int32(grey[y + 1, x]) + np.int32(grey[y, x - 1])
            value = around + np.int32(grey[y, x + 1]) - np.int32(4) * np.int32(grey[y, x])
            total += value
            squares += value * value
    return total, squares


def measure(pixels: Pixels) -> dict[str, int | float | str]:
    """All image measures of one decoded image [H, W, 3]."""
    grey = to_grey(pixels)
    counts = shades(grey)
    return {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "phash": phash(grey),
        "pixel_hash": pixel_hash(pixels),
        "entropy": _entropy(counts),
        "sharpness": sharpness(grey),
        "luma": float(counts @ np.arange(256) / grey.size),
    }
