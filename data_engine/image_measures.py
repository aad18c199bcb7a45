"""What can be measured of one image's pixels: hashes for deduplication, entropy, sharpness."""

import functools

import numpy as np
import numpy.typing as npt
import xxhash
from PIL import Image

Pixels = npt.NDArray[np.uint8]


@functools.cache
def _dct_rows(size: int, rows: int) -> npt.NDArray[np.float64]:
    """The first `rows` basis vectors of the type-II discrete cosine transform, [rows, size]."""
    k, n = np.arange(rows)[:, None], np.arange(size)[None, :]
    return 2 * np.cos(np.pi * k * (2 * n + 1) / (2 * size))


def phash(pixels: Pixels) -> int:
    """The 64-bit perceptual hash: signs of the 8x8 lowest DCT terms of the 32x32 grey image about their median.

    Bit order and resampling are those of the imagehash package, so that hashes can be compared.
    """
    grey = np.asarray(Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.LANCZOS))
    basis = _dct_rows(32, 8)
    low = basis @ grey.astype(np.float64) @ basis.T
    bits = (low > np.median(low)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def pixel_hash(pixels: Pixels) -> str:
    """A hash of the decoded picture: equal for one picture in two file formats."""
    return xxhash.xxh128_hexdigest(np.ascontiguousarray(pixels).data) + f"-{pixels.shape[1]}x{pixels.shape[0]}"


def entropy(grey: npt.NDArray[np.uint8]) -> float:
    """Shannon entropy of the grey histogram in bits, 0 (one shade) to 8."""
    counts = np.bincount(grey.ravel(), minlength=256)
    shares = counts[counts > 0] / grey.size
    return max(0.0, float(-(shares * np.log2(shares)).sum()))


def sharpness(grey: npt.NDArray[np.uint8]) -> float:
    """Variance of the Laplacian, the usual focus measure: near 0 for a blurred or empty image."""
    g = grey.astype(np.float32)
    if min(g.shape) < 3:
        return 0.0
    laplacian = g[:-2, 1:-1] + g[2:, 1:-1] + g[1:-1, :-2] + g[1:-1, 2:] - 4 * g[1:-1, 1:-1]
    return float(laplacian.var())


def measure(pixels: Pixels) -> dict[str, int | float | str]:
    """All image measures of one decoded image [H, W, 3]."""
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    return {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "phash": phash(pixels),
        "pixel_hash": pixel_hash(pixels),
        "entropy": entropy(grey),
        "sharpness": sharpness(grey),
        "luma": float(grey.mean()),
    }
