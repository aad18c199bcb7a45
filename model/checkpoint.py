"""Checkpoints in the published form, and the start of a model from a SigLIP and a Qwen3 folder.

The published form is a folder of sharded safetensors with the names `visual.vision_model.*`, `mlp_AR.*`, `model.*` and
`lm_head.*`, and a config whose language-model keys lie at its top level. Names are held strictly both ways, every
tensor has a checksum, and nothing larger than a shard is in memory.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase

from model.configuration import KeyeConfig, KeyeVisionConfig
from model.modeling import KeyeForConditionalGeneration, generation_config
from model.processing import KeyeProcessor
from model.tokenizer import load_tokenizer
from model.visual_tokens import IMAGE_PAD, VIDEO_PAD, VisualBudget, visual_budget
from model.weights import CHECKSUMS, TensorInfo, Weights, WeightsWriter, verify

ARCHITECTURE = "KeyeVL1_5ForConditionalGeneration"
"""What the published config calls the model."""

UNUSED = ("visual.vision_model.head.", "visual.vision_model.embeddings.packing_position_embedding.")
"""Weights that published checkpoints hold and the model has no use for: the pooling head, and the table that
interpolation has replaced. They are left out, and listed."""

Progress = Callable[[int, int], None]


class CheckpointError(ValueError):
    """A checkpoint that is not the model's: the message names the folder, the tensor and what disagrees."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which tensors of a checkpoint the model took, and which it has no use for."""

    taken: int
    parameters: int
    unused: list[str]
    verified: bool

    def lines(self) -> list[str]:
        """What a person wants to know, a line each."""
        found = f"{self.taken} tensors, {self.parameters:,} parameters: all that the model has, nothing left over"
        checked = "checksums agree" if self.verified else f"no {CHECKSUMS}: contents not verified"
        return [found, checked, *(f"not used: {name}" for name in self.unused)]


def shapes_of(config: KeyeConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in a checkpoint of `config`; a tied output layer is not one."""
    with torch.device("meta"):
        state = KeyeForConditionalGeneration(config).state_dict()
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if name not in tied}


def check(weights: Weights, config: KeyeConfig) -> list[str]:
    """The tensors of `weights` that `config` has no use for.

    Raises CheckpointError for a tensor that is missing, left over or of another shape, with the first of them.
    """
    wanted = shapes_of(config)
    tied = ("lm_head.weight",) if config.tie_word_embeddings else ()
    unused = [name for name in weights.names if name.startswith(UNUSED) or name in tied]
    found = set(weights.names) - set(unused)
    missing, extra = sorted(wanted.keys() - found), sorted(found - wanted.keys())
    for kind, names in (("lacks", missing), ("has no place for", extra)):
        if names:
            whose = "the checkpoint" if kind == "lacks" else "the model"
            raise CheckpointError(f"{weights.folder}: {whose} {kind} {names[0]} ({len(names)} such tensors)")
    for name, shape in wanted.items():
        have = weights.info(name).shape
        if have != shape:
            raise CheckpointError(f"{weights.folder}: {name}: shape {list(have)}, its config says {list(shape)}")
    return unused


def import_checkpoint(source: Path, out: Path, *, preset: str = "8b", on_progress: Progress | None = None) -> Coverage:
    """Takes a checkpoint in the published form over into `out`, a folder that `from_pretrained` reads.

    Tensors keep their type. The processor's budget is that of `preset` unless the folder brings one.
    Raises CheckpointError, WeightsError.
    """
    config, weights = _open(source)
    tokenizer = load_tokenizer(source)
    processor = KeyeProcessor(tokenizer, budget_of(source) or visual_budget(preset))
    return _write(config, weights, processor, out, config.to_dict(), on_progress)


def export_checkpoint(source: Path, out: Path, *, on_progress: Progress | None = None) -> Coverage:
    """Writes the model folder `source` in the published form to `out`. Raises CheckpointError, WeightsError."""
    config, weights = _open(source)
    processor = KeyeProcessor(load_tokenizer(source), budget_of(source) or visual_budget("8b"))
    return _write(config, weights, processor, out, published_config(config, weights), on_progress)


def _open(folder: Path) -> tuple[KeyeConfig, Weights]:
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: no config.json; give the folder of a model")
    config = AutoConfig.from_pretrained(folder)
    if not isinstance(config, KeyeConfig):
        raise CheckpointError(f"{folder}: model_type {config.model_type!r}, not {KeyeConfig.model_type!r}")
    return config, Weights.open(folder)


def budget_of(folder: Path) -> VisualBudget | None:
    """The visual budget that a folder's processor was saved with."""
    path = folder / "processor_config.json"
    if not path.is_file():
        return None
    budget = json.loads(path.read_text(encoding="utf-8")).get("budget")
    return None if budget is None else VisualBudget(**budget)


def published_config(config: KeyeConfig, weights: Weights) -> dict[str, Any]:
    """The config as published: the language model's keys at the top level, `rope_scaling` beside `rope_theta`."""
    text = config.text_config.to_dict()
    rope = text.pop("rope_parameters")
    for key in ("model_type", "architectures", "_attn_implementation", "transformers_version", "dtype"):
        text.pop(key, None)
    return {
        **text,
        "architectures": [ARCHITECTURE],
        "model_type": KeyeConfig.model_type,
        "vision_config": config.vision_config.to_dict(),
        "image_token_id": config.image_token_id,
        "video_token_id": config.video_token_id,
        "tie_word_embeddings": config.tie_word_embeddings,
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": rope["rope_type"], "mrope_section": rope["mrope_section"]},
        "rope_resets": config.rope_resets,
        "torch_dtype": str(weights.info(weights.names[0]).dtype).removeprefix("torch."),
    }


def _write(
    config: KeyeConfig,
    weights: Weights,
    processor: KeyeProcessor,
    out: Path,
    written_config: dict[str, Any],
    on_progress: Progress | None,
) -> Coverage:
    unused = check(weights, config)
    verified = (weights.folder / CHECKSUMS).is_file()
    if verified:
        verify(weights.folder)
    taken = [name for name in weights.names if name not in unused]
    tensors = ((name, weights.read(name)) for name in taken)
    numbers = _publish(out, tensors, len(taken), processor, written_config, on_progress)
    return Coverage(len(taken), numbers, unused, verified)


def _publish(
    out: Path,
    tensors: Iterator[tuple[str, Tensor]],
    total: int,
    processor: KeyeProcessor,
    config: dict[str, Any],
    on_progress: Progress | None,
) -> int:
    """Writes a model's folder, which appears whole or not at all. Returns its parameters."""
    if out.exists():
        raise CheckpointError(f"{out}: exists already; choose another folder or remove it")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    writer, numbers = WeightsWriter(partial), 0
    for done, (name, tensor) in enumerate(tensors, start=1):
        writer.add(name, tensor)
        numbers += tensor.numel()
        if on_progress is not None:
            on_progress(done, total)
    writer.close()
    processor.save_pretrained(partial)
    generation_config(processor.tokenizer).save_pretrained(partial)
    (partial / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    partial.rename(out)
    return numbers


# A start from two models


def start_checkpoint(
    siglip: Path, qwen: Path, out: Path, *, preset: str = "8b", seed: int = 0, on_progress: Progress | None = None
) -> Coverage:
    """A model before stage 1: the vision tower of a SigLIP folder, a Qwen3 folder, and a fresh projector.

    All tensors are in the language model's type. The projector is drawn from `seed` (normal, deviation: the
    language model's `initializer_range`). Rows of tokens that Qwen3's tokenizer lacked become the mean of its own,
    so that no new token starts as noise. The visual budget is that of `preset`.
    Raises CheckpointError where a folder is not of its kind, or a tensor is missing or left over.
    """
    vision, tower = _vision_part(siglip)
    text, language, tokenizer, known = _language_part(qwen)
    ids = tokenizer.convert_tokens_to_ids([IMAGE_PAD, VIDEO_PAD])
    config = KeyeConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=ids[0],
        video_token_id=ids[1],
        tie_word_embeddings=text["tie_word_embeddings"],
        architectures=["KeyeForConditionalGeneration"],
        dtype=language.info("model.embed_tokens.weight").dtype,
    )
    sources = {**tower, **{name: (language, name) for name in language.names}}
    wanted = shapes_of(config)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    for name in sorted(sources.keys() - wanted.keys() - tied):
        raise CheckpointError(f"{sources[name][0].folder}: the model has no place for {sources[name][1]}")
    tensors = _start_tensors(wanted, sources, known, config, seed)
    processor = KeyeProcessor(tokenizer, visual_budget(preset))
    numbers = _publish(out, tensors, len(wanted), processor, config.to_dict(), on_progress)
    return Coverage(len(wanted), numbers, [], verified=False)


def _vision_part(folder: Path) -> tuple[dict[str, Any], dict[str, tuple[Weights, str]]]:
    """Our vision config, and where each of the tower's tensors lies; text tower and pooling head stay behind."""
    found = _config_of(folder, ("siglip", "siglip_vision_model"))
    data = getattr(found, "vision_config", found).to_dict()
    vision = {key: data[key] for key in KeyeVisionConfig().to_dict() if key in data and key != "model_type"}
    weights = Weights.open(folder)
    tower = {}
    for name in weights.names:
        short = name.removeprefix("vision_model.")
        if short.startswith(("embeddings.", "encoder.", "post_layernorm.")):
            tower[f"visual.vision_model.{short}"] = (weights, name)
    return vision, tower


def _language_part(folder: Path) -> tuple[dict[str, Any], Weights, PreTrainedTokenizerBase, int]:
    """Our text config, the weights, the tokenizer with every special token, and how many tokens it had before."""
    from transformers import AutoTokenizer

    found = _config_of(folder, ("qwen3",))
    known = len(AutoTokenizer.from_pretrained(folder))
    tokenizer = load_tokenizer(folder)
    text = found.to_dict()
    pairs = found.head_dim // 2
    section = [pairs // 4, (pairs - pairs // 4) // 2, pairs - pairs // 4 - (pairs - pairs // 4) // 2]
    text["rope_parameters"] = {**found.rope_parameters, "mrope_section": section}
    text["vocab_size"] = max(found.vocab_size, len(tokenizer))
    for key in ("model_type", "architectures", "transformers_version"):
        text.pop(key, None)
    return text, Weights.open(folder), tokenizer, known


def _config_of(folder: Path, kinds: tuple[str, ...]) -> PreTrainedConfig:
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: no config.json; give a folder of {' or '.join(kinds)}")
    config = AutoConfig.from_pretrained(folder)
    if config.model_type not in kinds:
        raise CheckpointError(f"{folder}: model_type {config.model_type!r}, wanted {' or '.join(kinds)}")
    return config


def _start_tensors(
    wanted: dict[str, tuple[int, ...]],
    sources: dict[str, tuple[Weights, str]],
    known: int,
    config: KeyeConfig,
    seed: int,
) -> Iterator[tuple[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    dtype, deviation = config.dtype, config.text_config.initializer_range
    for name, shape in wanted.items():
        if name.startswith("mlp_AR."):
            yield name, _fresh(name, shape, deviation, generator).to(dtype)
            continue
        if name not in sources:
            raise CheckpointError(f"neither folder has a tensor for {name}")
        weights, stored = sources[name]
        info: TensorInfo = weights.info(stored)
        is_rows = name in ("model.embed_tokens.weight", "lm_head.weight")
        if info.shape != shape and not (is_rows and info.shape[1:] == shape[1:]):
            raise CheckpointError(f"{weights.folder}: {stored}: shape {list(info.shape)}, wanted {list(shape)}")
        tensor = weights.read(stored).to(dtype)
        yield name, _with_new_rows(tensor, shape[0], known) if is_rows else tensor


def _fresh(name: str, shape: tuple[int, ...], deviation: float, generator: torch.Generator) -> Tensor:
    """A projector's tensor: norms pass everything on, biases are zero."""
    if name.endswith("bias"):
        return torch.zeros(shape)
    return torch.ones(shape) if "norm" in name else torch.randn(shape, generator=generator) * deviation


def _with_new_rows(tensor: Tensor, num_rows: int, known: int) -> Tensor:
    """`num_rows` rows: the first `known` as they are, the rest their mean (in float32)."""
    mean = tensor[:known].float().mean(dim=0, keepdim=True).to(tensor.dtype)
    return torch.cat([tensor[:known], mean.expand(num_rows - known, -1)])
