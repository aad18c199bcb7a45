"""Conversations to arrays: token ids, targets, positions on three axes and patches.

`KeyeProcessor.encode` does one conversation in numpy, fast enough for data workers; `batch` pads and
`pack` packs what it made. Ids are exactly those of the tokenizer's chat template with the visual
placeholders expanded (`model.visual_tokens`), and a test holds them to it.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoProcessor, BatchFeature, PreTrainedTokenizerBase
from transformers.processing_utils import ProcessorMixin

from model import visual_tokens as vt
from model.configuration import KeyeConfig
from model.rope import position_ids
from model.thinking import SUFFIXES, Mode
from model.visual_tokens import Size, VisualBudget

IGNORED = -100
Int = NDArray[np.int64]
Picture = NDArray[np.uint8] | Image.Image
Message = dict[str, Any]
"""`{"role": …, "content": str | [{"type": "text" | "image" | "video", "text": …}]}`"""


class ProcessingError(ValueError):
    """A conversation that cannot be encoded: the message names the part and the fix."""


@dataclass(frozen=True, slots=True)
class Video:
    """Sampled frames (uint8 [H, W, 3], of any size), their times in seconds, and which are slow.

    `height` and `width` are those of the source video: the token plan follows them, not the frames.
    """

    frames: Sequence[Picture]
    times: Sequence[float]
    is_slow: Sequence[bool]
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """One conversation, unpadded.

    `input_ids`, `labels` [L] (-100 = no target), `position_ids` [3, L], `pixel_values` [P, 3, 14, 14] in
    [-1, 1], `grid_thw` [N, 3]: (1, rows, columns) of patches for each image or frame, in order.
    """

    input_ids: Int
    labels: Int
    position_ids: Int
    pixel_values: NDArray[np.float32]
    grid_thw: Int

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def num_targets(self) -> int:
        return int((self.labels != IGNORED).sum())


@dataclass(frozen=True, slots=True)
class _Medium:
    """The string that stands for an image or video, and its pictures with the sizes they are shown at."""

    text: str
    pictures: list[tuple[Picture, Size]]


class KeyeProcessor(ProcessorMixin):  # type: ignore[misc]
    """A model's tokenizer and visual budget. `budget` as a dict is how a saved processor is read."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, budget: VisualBudget | dict[str, Any]) -> None:
        super().__init__(tokenizer, chat_template=tokenizer.chat_template)
        self._budget = budget if isinstance(budget, VisualBudget) else VisualBudget(**budget)
        self.budget = asdict(self._budget)
        self._pad_id = tokenizer.convert_tokens_to_ids(vt.END_OF_TEXT)
        self._image_id, self._video_id = tokenizer.convert_tokens_to_ids([vt.IMAGE_PAD, vt.VIDEO_PAD])

    @property
    def visual_budget(self) -> VisualBudget:
        return self._budget

    def encode(
        self,
        messages: Sequence[Message],
        images: Sequence[Picture] = (),
        videos: Sequence[Video] = (),
        *,
        labels: bool = True,
        generation_prompt: bool = False,
        thinking: Mode = "auto",
    ) -> Encoded:
        """One conversation; `images` and `videos` in order of appearance.

        Targets are the words of assistant turns with their `<|im_end|>`, and all of a document; never a
        visual token, never the first token. `<|endoftext|>` ends a document, and a chat that a document
        follows. `generation_prompt` opens an assistant turn at the end; `thinking`
        ends the last user turn's last text with a mode's suffix.
        Raises ProcessingError when parts and media do not match or a text holds a control token,
        VisualTokenError for a picture or video that cannot be shown.
        """
        media = {"image": self._images(images), "video": self._videos(videos)}
        pieces, shown = _render(switched(messages, thinking), media)
        if generation_prompt:
            pieces.append((f"{vt.IM_START}assistant\n", False))
        ids, starts = self._tokenize("".join(text for text, _ in pieces))
        targets = np.full_like(ids, IGNORED)
        for first, last in _target_spans(pieces, starts) if labels else ():
            targets[first:last] = ids[first:last]
        targets[:1] = IGNORED
        return self._encoded(ids, targets, shown)

    def _tokenize(self, text: str) -> tuple[Int, list[int]]:
        """Ids of a text with its special tokens, and the character where each starts."""
        encoding = self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        return np.array(encoding.ids, dtype=np.int64), [start for start, _ in encoding.offsets]

    def _images(self, images: Iterable[Picture]) -> list[_Medium]:
        sizes = [(image, vt.image_size(*_shape(image), self._budget)) for image in images]
        return [_Medium(vt.image_text(*size), [(image, size)]) for image, size in sizes]

    def _videos(self, videos: Iterable[Video]) -> list[_Medium]:
        plans = [(video, vt.plan_video(video.is_slow, video.height, video.width, self._budget)) for video in videos]
        return [
            _Medium(vt.video_text(plan, v.times, v.is_slow), list(zip(v.frames, plan.sizes, strict=True)))
            for v, plan in plans
        ]

    def _encoded(self, ids: Int, labels: Int, media: Iterable[_Medium]) -> Encoded:
        side = self._budget.patch
        pictures = [picture for medium in media for picture in medium.pictures]
        grids = np.array([(1, h // side, w // side) for _, (h, w) in pictures], dtype=np.int64).reshape(-1, 3)
        patches = [_patches(_resized(picture, size), side) for picture, size in pictures]
        pixels = np.concatenate(patches) if patches else np.zeros((0, 3, side, side), dtype=np.uint8)
        is_visual = (ids == self._image_id) | (ids == self._video_id)
        positions = position_ids(is_visual, grids, self._budget.merge)
        return Encoded(ids, labels, positions, _normalised(pixels), grids)

    def batch(self, encoded: Sequence[Encoded], *, padding_side: str = "right") -> dict[str, torch.Tensor]:
        """What `forward` takes: one conversation a row, padded on `padding_side` to the longest."""
        length = max(map(len, encoded))
        starts = [length - len(one) if padding_side == "left" else 0 for one in encoded]
        tensors = self._rows([[(start, one)] for start, one in zip(starts, encoded, strict=True)], length)
        tensors["attention_mask"] = (tensors.pop("segment_ids") > 0).long()
        return tensors

    def pack(self, rows: Sequence[Sequence[Encoded]], length: int) -> dict[str, torch.Tensor]:
        """Rows of several conversations each, `segment_ids` telling them apart (0 = padding at the end).

        Raises ProcessingError for a row with more than `length` tokens.
        """
        places = []
        for number, row in enumerate(rows):
            starts = [0, *np.cumsum([len(one) for one in row]).tolist()]
            if starts[-1] > length:
                raise ProcessingError(f"row {number}: {starts[-1]} tokens do not fit in {length}; pack fewer samples")
            places.append(list(zip(starts, row, strict=False)))
        return self._rows(places, length)

    def _rows(self, rows: Sequence[Sequence[tuple[int, Encoded]]], length: int) -> dict[str, torch.Tensor]:
        """Tensors with rows of `length` tokens, each conversation at its start."""
        shape = (len(rows), length)
        ids, labels = np.full(shape, self._pad_id), np.full(shape, IGNORED)
        segments, positions = np.zeros(shape, dtype=np.int64), np.zeros((3, *shape), dtype=np.int64)
        for row, places in enumerate(rows):
            for segment, (start, one) in enumerate(places, start=1):
                span = slice(start, start + len(one))
                ids[row, span], labels[row, span], segments[row, span] = one.input_ids, one.labels, segment
                positions[:, row, span] = one.position_ids
        arrays = {"input_ids": ids, "labels": labels, "segment_ids": segments, "position_ids": positions}
        seen = [one for places in rows for _, one in places if len(one.grid_thw)]
        if seen:
            arrays["pixel_values"] = np.concatenate([one.pixel_values for one in seen])
            arrays["grid_thw"] = np.concatenate([one.grid_thw for one in seen])
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def __call__(
        self,
        text: str | Sequence[str],
        images: Sequence[Picture | Sequence[Picture]] | None = None,
        videos: Sequence[Video] | None = None,
        *,
        max_length: int | None = None,
        truncation: bool = False,
        **_: Any,
    ) -> BatchFeature:
        """Rendered prompts (chat template, one placeholder per medium) as a left-padded batch for `generate`.

        `images` (flat, or a list for each text) and `videos` are those of all texts, in order of appearance.
        Further keywords that transformers' processors take (`padding`, `return_tensors`) change nothing: the batch
        is always padded, always tensors.
        Raises ProcessingError for a prompt over `max_length` tokens, and for `truncation`: a prompt is never cut,
        as the cut might go through an image.
        """
        if truncation:
            raise ProcessingError("truncation: a prompt is never cut, as it might be through an image; shorten it")
        media = {"image": iter(self._images(_flat(images or ()))), "video": iter(self._videos(videos or ()))}
        encoded = [self._prompt(prompt, media) for prompt in ([text] if isinstance(text, str) else text)]
        _refuse_unused({kind: list(rest) for kind, rest in media.items()})
        for number, one in enumerate(encoded):
            if max_length is not None and len(one) > max_length:
                raise ProcessingError(
                    f"prompt {number}: {len(one)} tokens, max_length is {max_length}: shorten it or show less; "
                    "a prompt is never cut"
                )
        tensors = self.batch(encoded, padding_side="left")
        del tensors["labels"]
        return BatchFeature(tensors)

    def _prompt(self, prompt: str, media: dict[str, Iterator[_Medium]]) -> Encoded:
        shown: list[_Medium] = []

        def expand(match: re.Match[str]) -> str:
            shown.append(_next_medium(match[1], media))
            return shown[-1].text

        ids, _ = self._tokenize(_PLACEHOLDER.sub(expand, prompt))
        return self._encoded(ids, np.full_like(ids, IGNORED), shown)


_PLACEHOLDER = re.compile(rf"{re.escape(vt.VISION_START)}<\|(image|video)_pad\|>{re.escape(vt.VISION_END)}")


def _render(
    messages: Iterable[Message], media: dict[str, list[_Medium]]
) -> tuple[list[tuple[str, bool]], list[_Medium]]:
    """The prompt as pieces (string, is it a target?), and the media in order of appearance."""
    pieces: list[tuple[str, bool]] = []
    shown: list[_Medium] = []
    left = {kind: iter(of_kind) for kind, of_kind in media.items()}
    in_chat = False
    for message in messages:
        is_document = message["role"] == "document"
        is_target = is_document or message["role"] == "assistant"
        if not is_document:
            pieces.append((f"{vt.IM_START}{message['role']}\n", False))
        elif in_chat:
            pieces.append((vt.END_OF_TEXT, True))
        in_chat = not is_document
        for part in _parts(message):
            if part["type"] == "text":
                pieces.append((_plain(part["text"]), is_target))
            else:
                shown.append(_next_medium(part["type"], left))
                pieces.append((shown[-1].text, False))
        pieces += [(vt.END_OF_TEXT, True)] if is_document else [(vt.IM_END, is_target), ("\n", False)]
    _refuse_unused({kind: list(rest) for kind, rest in left.items()})
    return pieces, shown


def switched(messages: Sequence[Message], thinking: Mode) -> Sequence[Message]:
    """The messages with the mode's suffix at the end of the last text of the last user turn."""
    turns = [place for place, message in enumerate(messages) if message["role"] == "user"]
    if thinking == "auto" or not turns:
        return messages
    parts = list(_parts(messages[turns[-1]]))
    texts = [place for place, part in enumerate(parts) if part["type"] == "text"]
    place = texts[-1] if texts else len(parts)
    text = parts[place]["text"] if texts else ""
    parts[place : place + 1] = [{"type": "text", "text": text + SUFFIXES[thinking]}]
    changed = {**messages[turns[-1]], "content": parts}
    return [*messages[: turns[-1]], changed, *messages[turns[-1] + 1 :]]


def _parts(message: Message) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _plain(text: str) -> str:
    found = [token for token in vt.CONTROL_TOKENS if token in text] if "<|" in text else []
    if found:
        raise ProcessingError(f"text holds the control token {found[0]}: remove it, or pass the media as a part")
    return text


def _next_medium(kind: str, media: dict[str, Iterator[_Medium]]) -> _Medium:
    if kind not in media:
        raise ProcessingError(f"content part of type {kind!r}: it must be text, image or video")
    medium = next(media[kind], None)
    if medium is None:
        raise ProcessingError(f"more {kind} parts than {kind}s: pass one {kind} per part, in order")
    return medium


def _refuse_unused(rest: dict[str, list[_Medium]]) -> None:
    for kind, unused in rest.items():
        if unused:
            raise ProcessingError(f"{len(unused)} more {kind}s than {kind} parts: add a part where each belongs")


def _target_spans(pieces: Iterable[tuple[str, bool]], starts: list[int]) -> Iterator[tuple[int, int]]:
    """Token ranges of the pieces that are targets, for tokens that start at the characters `starts`."""
    character = 0
    for text, is_target in pieces:
        if is_target:
            yield bisect_left(starts, character), bisect_left(starts, character + len(text))
        character += len(text)


def _flat(images: Iterable[Picture | Sequence[Picture]]) -> Iterator[Picture]:
    for one in images:
        if isinstance(one, np.ndarray | Image.Image):
            yield one
        else:
            yield from one


def _shape(picture: Picture) -> Size:
    if isinstance(picture, Image.Image):
        return picture.height, picture.width
    return picture.shape[0], picture.shape[1]


def _resized(picture: Picture, size: Size) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] at `size`: bicubic with antialias (PIL), untouched when the size is right."""
    if _shape(picture) == size and not isinstance(picture, Image.Image):
        return picture
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image = image if image.mode == "RGB" else image.convert("RGB")
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _patches(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """[H, W, 3] -> [H / side * W / side, 3, side, side] in raster order."""
    height, width, _ = image.shape
    cut = image.reshape(height // side, side, width // side, side, 3)
    return cut.transpose(0, 2, 4, 1, 3).reshape(-1, 3, side, side)


def _normalised(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """0..255 -> -1..1: SigLIP's mean and deviation of 0.5."""
    return np.multiply(pixels, np.float32(1 / 127.5), dtype=np.float32) - np.float32(1)


AutoProcessor.register(KeyeConfig, KeyeProcessor)
