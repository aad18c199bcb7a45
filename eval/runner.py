"""Questions to a model: encoded once, answered in batches of like length, identical ones only once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from data_engine.clips import Clip
from data_engine.sample import Message
from eval.cache import AnswerCache, key_of
from model.modeling import KeyeForConditionalGeneration
from model.processing import Encoded, KeyeProcessor
from train.engine import fingerprint
from train.feed.conversation import encode
from train.start import load_model, model_folder

MAX_NEW_TOKENS = 12
"""Enough for a word of eleven letters where every letter is a token; what rambles on past it is no answer."""


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt: messages that end with the user's turn, and the media they show."""

    messages: tuple[Message, ...]
    media: tuple[bytes | Clip, ...]


@dataclass(frozen=True, slots=True)
class Answerer:
    """A model ready to be asked; `weights` names its weights in the cache."""

    model: KeyeForConditionalGeneration
    processor: KeyeProcessor
    weights: str
    batch_size: int = 256
    max_new_tokens: int = MAX_NEW_TOKENS


def load_answerer(path: Path, batch_size: int = 256) -> Answerer:
    """The model in `path` (a model's folder or a stage's, whose last checkpoint counts). Raises StageError."""
    folder = model_folder(path)
    model = load_model(folder).eval()
    return Answerer(model, KeyeProcessor.from_pretrained(folder), fingerprint(model), batch_size)


def ask(
    answerer: Answerer, questions: Sequence[Question], cache: AnswerCache, on_progress: Callable[[int, int], None]
) -> list[str]:
    """What the model says to each question, greedily, in order."""
    return ask_encoded(answerer, encode_all(answerer.processor, questions), cache, on_progress)


def encode_all(processor: KeyeProcessor, questions: Iterable[Question]) -> Iterator[Encoded]:
    """Each question as a prompt with the assistant's turn opened."""
    return (encode(processor, question.messages, question.media, prompt=True) for question in questions)


def ask_encoded(
    answerer: Answerer, prompts: Iterable[Encoded], cache: AnswerCache, on_progress: Callable[[int, int], None]
) -> list[str]:
    """`ask` for prompts that its processor has encoded already."""
    keys: list[str] = []
    waiting: dict[str, Encoded] = {}
    for encoded in prompts:
        keys.append(key_of(f"{answerer.weights}, {answerer.max_new_tokens} tokens", encoded))
        if keys[-1] not in cache.answers:
            waiting[keys[-1]] = encoded
    _answer(answerer, waiting, cache, on_progress)
    return [cache.answers[key] for key in keys]


def _answer(
    answerer: Answerer, waiting: Mapping[str, Encoded], cache: AnswerCache, on_progress: Callable[[int, int], None]
) -> None:
    order = sorted(waiting, key=lambda key: len(waiting[key]))
    for start in range(0, len(order), answerer.batch_size):
        batch = order[start : start + answerer.batch_size]
        said = generate(answerer, [waiting[key] for key in batch])
        cache.add(dict(zip(batch, said, strict=True)))
        on_progress(min(start + answerer.batch_size, len(order)), len(order))


@torch.inference_mode()
def generate(answerer: Answerer, encoded: Sequence[Encoded]) -> list[str]:
    """Greedy continuations of a left-padded batch, special tokens removed."""
    tensors = answerer.processor.batch(encoded, padding_side="left")
    del tensors["labels"]
    prompt = tensors["input_ids"].shape[1]
    out = answerer.model.generate(**tensors, max_new_tokens=answerer.max_new_tokens, do_sample=False)
    words: list[str] = answerer.processor.tokenizer.batch_decode(out[:, prompt:], skip_special_tokens=True)
    return words
