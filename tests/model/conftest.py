"""A small tokenizer, processor and model, made once for all model tests."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from model.modeling import KeyeForConditionalGeneration, build
from model.processing import KeyeProcessor
from model.tokenizer import train_bpe
from model.visual_tokens import visual_budget

TEXTS = [
    "What colour is the shape? It is blue, not red.",
    "Is there a circle in the image? No: a triangle.",
    "这张图片里有什么？一个蓝色的三角形。",
    "The order of the frames is 3, 1, 2.\n\n    indented = code(1.5)\n",
]


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return train_bpe(TEXTS, 400, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def processor(tokenizer: PreTrainedTokenizerBase) -> KeyeProcessor:
    return KeyeProcessor(tokenizer, visual_budget("tiny"))


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerBase) -> KeyeForConditionalGeneration:
    """A tiny model with weights large enough that every part of it matters to the output."""
    model = build("tiny", tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model")
