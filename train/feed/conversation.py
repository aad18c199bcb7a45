"""From a sample and its media to what the processor takes: the one way, for training and for evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_engine.clips import Clip
from data_engine.media import decode_image
from data_engine.sample import Message
from model.processing import Encoded, KeyeProcessor, Video


@dataclass(slots=True)
class Conversation:
    """The arguments of `KeyeProcessor.encode`."""

    messages: list[dict[str, Any]]
    images: list[np.ndarray] = field(default_factory=list)
    videos: list[Video] = field(default_factory=list)


def conversation(messages: Sequence[Message], media: Sequence[bytes | Clip]) -> Conversation:
    """Decodes `media` (one for each image or video part, in order of appearance)."""
    result = Conversation([_turn(message) for message in messages])
    for medium in media:
        if isinstance(medium, bytes):
            result.images.append(decode_image(medium))
        else:
            result.videos.append(_video(medium))
    return result


def _turn(message: Message) -> dict[str, Any]:
    parts = [{"type": part.kind} | ({} if part.text is None else {"text": part.text}) for part in message.parts]
    return {"role": message.role, "content": parts}


def _video(clip: Clip) -> Video:
    frames = [decode_image(frame) for frame in clip.frames]
    return Video(frames, clip.times, clip.is_slow, clip.height, clip.width)


def encode(
    processor: KeyeProcessor,
    messages: Sequence[Message],
    media: Sequence[bytes | Clip],
    *,
    prompt: bool = False,
) -> Encoded:
    """Arrays for training, or (`prompt`) for generation, with the assistant's turn opened and no targets."""
    one = conversation(messages, media)
    return processor.encode(one.messages, one.images, one.videos, labels=not prompt, generation_prompt=prompt)
