"""A conversation with a model, turn by turn, with images and videos from files."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from transformers import AutoModelForImageTextToText, TextStreamer

from model.modeling import KeyeForConditionalGeneration
from model.processing import KeyeProcessor, Video
from model.thinking import Mode, Reply, parse_reply
from model.video_file import read_video
from model.visual_tokens import VisualBudget


class ChatError(ValueError):
    """A model folder or a picture that cannot be used: the message names the file."""


@dataclass(slots=True)
class Chat:
    """The turns so far. `shown` are the parts that the next question begins with.

    Of a reply only the answer is kept for later turns: thoughts would fill the context.
    """

    model: KeyeForConditionalGeneration
    processor: KeyeProcessor
    thinking: Mode = "auto"
    max_new_tokens: int = 512
    temperature: float = 0.0
    messages: list[dict[str, Any]] = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
    videos: list[Video] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)

    def show_image(self, path: Path) -> None:
        """Puts an image before the next question. Raises ChatError."""
        try:
            image = Image.open(path).convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise ChatError(f"{path}: not an image that can be read") from error
        self.images.append(image)
        self.shown.append({"type": "image"})

    def show_video(self, path: Path) -> None:
        """Puts a video before the next question. Raises VideoError, VisualTokenError."""
        self.videos.append(read_video(path, VisualBudget(**self.processor.budget)))
        self.shown.append({"type": "video"})

    def ask(self, question: str, streamer: TextStreamer | None = None) -> Reply:
        """The model's reply; `streamer` gets it as it comes. Raises ProcessingError, and forgets that question."""
        asked = [*self.messages, {"role": "user", "content": [*self.shown, {"type": "text", "text": question}]}]
        encoded = self.processor.encode(
            asked, self.images, self.videos, labels=False, generation_prompt=True, thinking=self.thinking
        )
        tensors = {name: tensor.to(self.model.device) for name, tensor in self.processor.batch([encoded]).items()}
        del tensors["labels"]
        sampling = {"do_sample": True, "temperature": self.temperature} if self.temperature else {"do_sample": False}
        with torch.inference_mode():
            out = self.model.generate(**tensors, **sampling, max_new_tokens=self.max_new_tokens, streamer=streamer)
        said = self.processor.tokenizer.decode(out[0, len(encoded) :], skip_special_tokens=True)
        reply = parse_reply(said)
        self.messages = [*asked, {"role": "assistant", "content": reply.answer}]
        self.shown = []
        return reply

    def forget(self) -> None:
        """Begins anew."""
        for kept in (self.messages, self.images, self.videos, self.shown):
            kept.clear()


def load(folder: Path) -> tuple[KeyeForConditionalGeneration, KeyeProcessor]:
    """The model and processor in `folder`, on the GPU where there is one. Raises ChatError."""
    if not (folder / "config.json").is_file():
        trained = sorted(folder.glob("checkpoints/step-*/model"))
        hint = f"; did you mean {trained[-1]}?" if trained else ""
        raise ChatError(f"{folder}: no config.json, so no model's folder{hint}")
    has_gpu = torch.cuda.is_available()
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16 if has_gpu else torch.float32)
    return model.to("cuda" if has_gpu else "cpu").eval(), KeyeProcessor.from_pretrained(folder)


def streamer_of(processor: KeyeProcessor) -> TextStreamer:
    """Prints what is new as soon as it is a whole word."""
    return TextStreamer(processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
