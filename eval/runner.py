"""Questions to a model: encoded once, answered in batches of like length, identical ones only once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from data_engine.clips import Clip
from data_engine.sample import Message
from eval.cache import AnswerCache, key_of
from model.modeling import KeyeForConditionalGeneration
from model.processing import Encoded, KeyeProcessor
from train.feed.conversation import encode


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
    max_new_tokens: int = 8


def ask(
    answerer: Answerer, questions: Sequence[Question], cache: AnswerCache, on_progress: Callable[[int, int], None]
) -> list[str]:
    """What the model says to each question, greedily, in order."""
    keys: list[str] = []
    waiting: dict[str, Encoded] = {}
    for question in questions:
        encoded = encode(answerer.processor, question.messages, question.media, prompt=True)
        keys.append(key_of(answerer.weights, encoded))
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
