"""Perplexity of a causal model's folder against its own logits, and against a model that knows nothing."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_engine.media import MediaStore
from data_engine.operators.perplexity import Perplexity

TEXTS = ["A red flower in the garden.", "花园里的一朵红花。", "x", "", None]


def folder(path: Path, blind: bool) -> Path:
    """A small Qwen3 with random weights; a blind one gives every token the same chance."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from model.tokenizer import train_bpe

    tokenizer = train_bpe(["A red flower in the garden."], 300, path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = Qwen3ForCausalLM(
        Qwen3Config(vocab_size=len(tokenizer), num_key_value_heads=1, head_dim=16, tie_word_embeddings=False, **sizes)
    )
    if blind:
        model.lm_head.weight.data.zero_()
    model.save_pretrained(path)
    return path


def measured(path: Path, **options: Any) -> list[float | None]:
    operator = Perplexity(model=str(path), **options)
    found: list[float | None] = operator.measure_media(
        pa.table({"target": pa.array(TEXTS, pa.string())}), MediaStore(path)
    )["perplexity"].to_pylist()
    return found


def test_a_model_that_knows_nothing_is_as_perplexed_as_it_has_tokens(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    path = folder(tmp_path, blind=True)
    vocabulary = len(AutoTokenizer.from_pretrained(path))
    assert measured(path) == [pytest.approx(vocabulary, rel=1e-5)] * 2 + [None] * 3


@pytest.mark.parametrize("context", [512, 5])
def test_perplexity_is_that_of_the_logits(tmp_path: Path, context: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = folder(tmp_path, blind=False)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    for text, found in zip(TEXTS[:2], measured(path, context=context), strict=False):
        tokens = tokenizer(text)["input_ids"][:context]
        with torch.no_grad():
            logits = model(torch.tensor([tokens])).logits[0].double().numpy()
        chance = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        nats = [-chance[place, token] for place, token in enumerate(tokens[1:])]
        assert found == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-4)


def test_thresholds_and_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint"):
        Perplexity(model=str(tmp_path / "none")).require()
    operator = Perplexity(model=str(folder(tmp_path, blind=True)), min_perplexity=5, max_perplexity=50)
    measures = pa.table({"perplexity": [2.0, 20.0, 200.0, None]})
    assert operator.decide(measures).to_pylist() == ["perplexity too low", None, "perplexity too high", None]
