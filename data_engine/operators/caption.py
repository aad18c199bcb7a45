"""Operators on images that carry captions or questions: size, shape, focus and emptiness; captions that say nothing."""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_engine.describe import owners
from data_engine.operators.base import Operator, reasons
from data_engine.words import folded

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Resolution(Operator):
    """Drops images too small to show anything, or too long and narrow (smart_resize refuses beyond 200)."""

    looks_at: ClassVar[tuple[str, ...]] = ("short_side", "aspect")
    min_side: int = 32
    max_aspect: float = 8.0

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        width, height = (pc.cast(batch[side], pa.float64()) for side in ("width", "height"))
        long, short = pc.max_element_wise(width, height), pc.min_element_wise(width, height)
        return {"short_side": short, "aspect": pc.divide(long, short)}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons(
            (pc.less(measures["short_side"], self.min_side), "image too small"),
            (pc.greater(measures["aspect"], self.max_aspect), "image too narrow"),
        )


class Blank(Operator):
    """Drops near-blank images: grey-level entropy in bits (0 is one shade)."""

    looks_at: ClassVar[tuple[str, ...]] = ("entropy",)
    min_entropy: float = 0.5

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.less(measures["entropy"], self.min_entropy), "near-blank image"))


class Blur(Operator):
    """Drops samples with an image out of focus: variance of the Laplacian of its grey levels, the least of a sample."""

    looks_at: ClassVar[tuple[str, ...]] = ("min_sharpness",)
    min_sharpness: float = 20.0

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        row, seen = _images(batch["pictures"])
        return {"min_sharpness": extreme(np.fmin, _values(seen, "sharpness"), row, len(batch))}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.less(measures["min_sharpness"], self.min_sharpness), "blurred image"))


class Pictures(Operator):
    """As `resolution`, for all media of a sample: its smallest side and its largest aspect; and how many there are."""

    looks_at: ClassVar[tuple[str, ...]] = ("pictures", "smallest_side", "largest_aspect")
    min_side: int = 32
    max_aspect: float = 8.0
    max_pictures: int = 64

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        pictures = batch["pictures"].combine_chunks()
        row, seen = owners(pictures), pictures.flatten()
        width, height = _values(seen, "width"), _values(seen, "height")
        short = np.fmin(width, height)
        return {
            "pictures": pa.array(np.bincount(row, minlength=len(batch))),
            "smallest_side": extreme(np.fmin, short, row, len(batch)),
            "largest_aspect": extreme(np.fmax, np.fmax(width, height) / short, row, len(batch)),
        }

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons(
            (pc.greater(measures["pictures"], self.max_pictures), "too many pictures"),
            (pc.less(measures["smallest_side"], self.min_side), "image too small"),
            (pc.greater(measures["largest_aspect"], self.max_aspect), "image too narrow"),
        )


class Animated(Operator):
    """Drops samples with an animation where a still is expected: only its first frame would be seen."""

    looks_at: ClassVar[tuple[str, ...]] = ("image_frames",)
    max_frames: int = 1

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        row, seen = _images(batch["pictures"])
        return {"image_frames": extreme(np.fmax, _values(seen, "frames"), row, len(batch))}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.greater(measures["image_frames"], self.max_frames), "animated image"))


_PHRASES_EN = (
    *("click (?:here|to (?:enlarge|zoom|view|see)|image|on the)", "tap to (?:enlarge|zoom|view)", "read more"),
    "(?:stock|royalty[- ]free|high[- ]res(?:olution)?) (?:photo|image|picture|illustration|vector|footage)s?",
    *(
        "all rights reserved",
        "©",
        r"\(c\) ?(?:19|20)[0-9]{2}",
        "(?:photo|image|picture) (?:credit|courtesy|by|source)\\b",
    ),
    *("free download", "download (?:this|free|now)", "buy now", "add to cart", "free shipping", "subscribe (?:to|now)"),
    *("sign up", "log ?in to", "image (?:not available|unavailable|may contain)", "no (?:photo|image) available"),
    "(?:getty images|shutterstock|istock(?:photo)?|adobe stock|alamy|dreamstime|depositphotos|123rf)",
)
_PHRASES_ZH = (
    *(
        "点击(?:这里|此处|查看|放大|图片|下载|进入)",
        "查看(?:大图|原图|更多|详情)",
        "阅读(?:全文|更多)",
        "版权所有",
        "未经(?:许可|授权)",
    ),
    *(
        "图片来源",
        "图源[:：]",
        "(?:视觉中国|图虫|东方ic|昵图网|千图网|站酷)",
        "关注(?:我们|公众号)",
        "扫(?:描|一扫)?.{0,4}二维码",
    ),
    *("长按(?:识别|保存)", "立即购买", "加入购物车", "包邮", "免费下载", "暂无图片", "转载请"),
)
_FILE_NAMES = (
    r"[A-Za-z0-9_-]+\.(?:jpe?g|png|gif|bmp|webp|tiff?|svg|mp4|mov|avi|pdf)\b",
    r"\b(?:img|dsc[fn]?|pict|p|mvi|vid|wp|screenshot)[_ -]?[0-9]{3,}\b",
)


class Boilerplate(Operator):
    """Drops captions that speak of the page and not of the picture: calls to click, agencies, rights, file names.

    The measure counts such phrases in the answer or caption, in English and Chinese of all forms (`words.folded`).
    """

    looks_at: ClassVar[tuple[str, ...]] = ("boilerplate",)
    max_boilerplate: int = 0

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        phrases = "|".join((*_PHRASES_EN, *_PHRASES_ZH, *_FILE_NAMES))
        return {"boilerplate": pc.count_substring_regex(folded(batch["target"]), phrases)}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.greater(measures["boilerplate"], self.max_boilerplate), "boilerplate"))


class FileName(Operator):
    """Drops captions that are the name of the file they came from: letters and digits alone, without case, compared.

    A sample's origin is file:line or file#part; its file is the name after the last slash, without its suffix.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("caption_is_file_name",)

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        file = pc.replace_substring_regex(batch["origin"], r"(?:\.[A-Za-z0-9]{1,5})?(?:[#:][^/]*)?$", "")
        name, caption = _bare(pc.replace_substring_regex(file, r"^.*/", "")), _bare(batch["target"])
        return {"caption_is_file_name": pc.and_(pc.equal(name, caption), pc.greater(pc.binary_length(name), 0))}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((measures["caption_is_file_name"], "caption is the file's name"))


class Hashtags(Operator):
    """Drops captions that are mostly hashtags (#cat, #话题#): their share of the characters, white space aside."""

    looks_at: ClassVar[tuple[str, ...]] = ("hashtag_share",)
    max_share: float = 0.3

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        text = folded(batch["target"])
        bare = pc.replace_substring_regex(text, r"#[^\s#]*[\p{L}\p{N}_][^\s#]*#?", "")
        left, total = (pc.count_substring_regex(words, r"\S") for words in (bare, text))
        share = pc.divide(pc.cast(left, pa.float64()), pc.cast(pc.max_element_wise(total, 1), pa.float64()))
        return {"hashtag_share": pc.if_else(pc.equal(total, 0), 0.0, pc.subtract(1.0, share))}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons((pc.greater(measures["hashtag_share"], self.max_share), "mostly hashtags"))


def _bare(text: pa.ChunkedArray) -> pa.Array:
    return pc.replace_substring_regex(folded(text), r"[^\p{L}\p{N}]+", "")


def _images(pictures: pa.ChunkedArray) -> tuple[Ints, pa.StructArray]:
    """The pictures that are images, and the row that each is of."""
    column = pictures.combine_chunks()
    flat = column.flatten()
    still = pc.fill_null(pc.equal(pc.struct_field(flat, "kind"), "image"), False)
    return owners(column)[still.to_numpy(zero_copy_only=False)], flat.filter(still)


def _values(seen: pa.StructArray, name: str) -> Floats:
    """One field of the pictures; nan for one that did not open."""
    values: Floats = pc.cast(pc.struct_field(seen, name), pa.float64()).to_numpy(zero_copy_only=False)
    return values.astype(np.float64)


def extreme(better: "np.ufunc", values: Floats, row: Ints, num_rows: int) -> pa.Array:
    """The least (np.fmin) or greatest (np.fmax) value of each row, nan aside; null where there is none."""
    found = np.full(num_rows, np.nan)
    better.at(found, row, values)
    return pa.array(found, pa.float64(), from_pandas=True)
