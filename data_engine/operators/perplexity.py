"""Perplexity by any causal language model folder that transformers loads."""

import functools
import math
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from data_engine.media import MediaStore
from data_engine.models.threads import one_thread
from data_engine.operators.base import Operator, reasons
from data_engine.runners.needs import Needs, checkpoint
from strict_yaml import RecipeError


class Perplexity(Operator):
    """Drops answers and documents that a language model finds too strange, or too easy.

    The measure is exp(mean negative log-likelihood in nats of every token but the first), of at most `context`
    tokens; null below two tokens. It is made on Ray, as all measures by models are.
    """

    needs_media: ClassVar[bool] = True
    looks_at: ClassVar[tuple[str, ...]] = ("perplexity",)
    measured_by: ClassVar[tuple[str, ...]] = ("model", "context")
    model: str
    context: int = 512
    min_perplexity: float = 0.0
    max_perplexity: float = math.inf

    def require(self) -> None:
        if not (Path(self.model).expanduser() / "config.json").is_file():
            raise RecipeError(f"{self.model}: no checkpoint (config.json) there; give a causal language model's folder")

    def needs(self) -> Needs:
        return checkpoint(self.model)

    def measure_media(self, batch: pa.Table, store: MediaStore) -> dict[str, pa.Array]:
        found = [perplexity(self.model, text or "", self.context) for text in batch["target"].to_pylist()]
        return {"perplexity": pa.array(found, pa.float64())}

    def decide(self, measures: pa.Table) -> pa.Array:
        return reasons(
            (pc.greater(measures["perplexity"], self.max_perplexity), "perplexity too high"),
            (pc.less(measures["perplexity"], self.min_perplexity), "perplexity too low"),
        )


@one_thread()
def perplexity(model: str, text: str, context: int) -> float | None:
    """See `Perplexity`."""
    network, tokenizer = _load(model)
    tokens = tokenizer(text, truncation=True, max_length=context, return_tensors="pt")["input_ids"]
    if tokens.shape[1] < 2:
        return None
    return math.exp(network(input_ids=tokens, labels=tokens, use_cache=False).loss.item())


@functools.lru_cache(maxsize=1)
def _load(folder: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = Path(folder).expanduser()
    network = AutoModelForCausalLM.from_pretrained(path, local_files_only=True).eval().requires_grad_(False)
    return network, AutoTokenizer.from_pretrained(path, local_files_only=True)
