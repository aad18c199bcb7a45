"""Merging model folders: streamed tensor by tensor, a large tensor by rows, so that 8B merges in a few GiB.

The result is a model folder in transformers' form, with `merge.json` (what it was made of) and `divergence.json`.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.fusion.divergence import Divergence, Sums, divergence_of, module_of
from model.fusion.methods import Inputs, prepare
from model.fusion.recipe import MergeRecipe
from model.fusion.vocabulary import TOKENIZER, WORD_ROWS, Alignment, align, rectify, runs
from model.weights import CHECKSUMS, INDEX, SINGLE, Weights, WeightsError, WeightsWriter

CHUNK_VALUES = 1 << 18
"""Values of a tensor that are worked on at once, for each input: 1 MiB in float32, which stays in the caches."""

LINEAGE = "lineage.json"
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".index.json")
RECORDS = ("merge.json", "divergence.json", CHECKSUMS)
"""What a merge writes itself, and does not copy from the base."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Models:
    """The opened inputs of a merge. Where the method has no base, that is the first model, merged like the others."""

    base: Weights
    others: list[Weights]
    merges_base: bool
    alignment: Alignment | None

    def inputs(self, name: str) -> Inputs:
        """One tensor of all inputs, in the shape that it has in the result."""
        shape = self.base.info(name).shape
        if self.alignment is not None and name in WORD_ROWS:
            shape = (self.alignment.num_rows, *shape[1:])
        chunk_rows = max(1, CHUNK_VALUES // max(1, math.prod(shape[1:])))
        return Inputs(name, shape, chunk_rows, lambda rows: self._read(name, rows))

    def _read(self, name: str, rows: slice) -> tuple[Tensor, list[Tensor]]:
        opened = (self.base, *self.others)
        if self.alignment is not None and name in WORD_ROWS:
            sources = [source[rows] for source in self.alignment.sources]
            base, others = rectify([_gather(*pair, name) for pair in zip(opened, sources, strict=True)], sources)
        else:
            base, *others = (_read(one, name, rows) for one in opened)
        return base, [base, *others] if self.merges_base else others


def merge(recipe: MergeRecipe, out: Path, *, on_progress: Progress | None = None) -> Divergence:
    """Merges into the new folder `out`, which appears only when it is whole.

    `on_progress` is told how many tensors of how many are done. Raises WeightsError for a folder that is there,
    inputs that do not fit together, or a result that is not finite.
    """
    if out.exists():
        raise WeightsError(f"{out}: exists; remove it or choose another folder")
    models = open_models(recipe)
    staging = out.parent / f".{out.name}.partial"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        _copy_side_files(recipe, models, staging)
        divergence = _merge_weights(recipe, models, staging, on_progress)
        _rewrite_lineage(staging)
        (staging / "divergence.json").write_text(divergence.to_json(), encoding="utf-8")
        (staging / "merge.json").write_text(json.dumps(_record(recipe), indent=1), encoding="utf-8")
        staging.rename(out)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return divergence


def open_models(recipe: MergeRecipe) -> Models:
    """Opens the inputs. Raises WeightsError naming the tensor in which they differ."""
    models = [Weights.open(model.path) for model in recipe.models]
    base, others = (models[0], models[1:]) if recipe.base is None else (Weights.open(recipe.base), models)
    for other in others:
        _check_names(base, other)
    words = next((name for name in WORD_ROWS if name in base.names), None)
    alignment = None
    if words is not None:
        opened = (base, *others)
        alignment = align([one.folder for one in opened], [one.info(words).shape[0] for one in opened])
    for other in others:
        _check_shapes(base, other, free_rows=alignment is not None)
    return Models(base, others, recipe.base is None, alignment)


def _check_names(base: Weights, model: Weights) -> None:
    for name in sorted({*base.names} ^ {*model.names}):
        has, lacks = (base, model) if name in base.names else (model, base)
        hint = "tie the word embeddings of both or of none" if name == "lm_head.weight" else "merge one architecture"
        raise WeightsError(f"{lacks.folder}: tensor {name!r} is missing, {has.folder} has it; {hint}")


def _check_shapes(base: Weights, model: Weights, free_rows: bool) -> None:
    """All shapes must be the same, but for the rows of the word matrices where they can be aligned by token."""
    for name in base.names:
        skip = 1 if free_rows and name in WORD_ROWS else 0
        ours, theirs = base.info(name), model.info(name)
        if ours.shape[skip:] != theirs.shape[skip:]:
            raise WeightsError(
                f"{model.folder}: tensor {name!r} is {theirs.shape}, in {base.folder} {ours.shape}; "
                "merge models of one architecture and preset"
            )
        if ours.dtype.is_floating_point != theirs.dtype.is_floating_point:
            raise WeightsError(
                f"{model.folder}: tensor {name!r} is {theirs.dtype}, in {base.folder} {ours.dtype}; convert one"
            )


def _merge_weights(recipe: MergeRecipe, models: Models, out: Path, on_progress: Progress | None) -> Divergence:
    sums: dict[str, Sums] = {}
    writer = WeightsWriter(out)
    names = models.base.names
    for done, name in enumerate(names, start=1):
        stored = models.base.info(name).dtype
        if stored.is_floating_point:
            dtype = stored if recipe.dtype is None else getattr(torch, recipe.dtype)
            module = sums.setdefault(module_of(name), Sums(len(recipe.models)))
            writer.add(name, _merge_tensor(recipe, models, name, dtype, module))
        else:
            writer.add(name, _common_value(models, name))
        if on_progress is not None:
            on_progress(done, len(names))
    writer.close()
    return divergence_of(str(recipe.reference), [str(model.path) for model in recipe.models], sums)


def _merge_tensor(recipe: MergeRecipe, models: Models, name: str, dtype: torch.dtype, sums: Sums) -> Tensor:
    """One tensor in `dtype`, merged in float32 chunk by chunk; what was stored is added to `sums`."""
    inputs = models.inputs(name)
    combine = prepare(recipe.method, inputs, recipe.weights, recipe.densities, recipe.seed)
    result = torch.empty(inputs.shape, dtype=dtype)
    for rows in inputs.slices():
        base, chunk = inputs.read(rows)
        merged = combine(base, chunk)
        if models.alignment is not None and name in WORD_ROWS:
            merged = torch.where(models.alignment.fixed(rows)[:, None], base, merged)
        stored = merged.to(dtype)
        (result[rows] if inputs.shape else result).copy_(stored)
        sums.add(base, chunk, stored.float())
    if not sums.is_finite():
        raise WeightsError(f"tensor {name!r}: not finite in {dtype}; check the inputs, or set dtype: float32")
    return result


def _common_value(models: Models, name: str) -> Tensor:
    """A tensor of integers or flags, which cannot be merged and must be equal in all inputs."""
    value = models.base.read(name)
    for model in models.others:
        if not torch.equal(model.read(name), value):
            raise WeightsError(f"{model.folder}: tensor {name!r} ({value.dtype}) differs from {models.base.folder}'s")
    return value


def _read(weights: Weights, name: str, rows: slice) -> Tensor:
    return weights.read(name, rows if weights.info(name).shape else None).float()


def _gather(weights: Weights, source: Tensor, name: str) -> Tensor:
    """Rows [R, D] of a word matrix in float32; zeros where `source` has none."""
    table = torch.zeros(len(source), *weights.info(name).shape[1:])
    for places, rows in runs(source):
        table[places] = weights.read(name, rows).float()
    return table


def _copy_side_files(recipe: MergeRecipe, models: Models, out: Path) -> None:
    """Config, tokenizer, processor and whatever else the base's folder has beside its weights."""
    for file in sorted(models.base.folder.iterdir()):
        if file.is_file() and not file.name.endswith(WEIGHT_SUFFIXES) and file.name not in RECORDS:
            shutil.copyfile(file, out / file.name)
    config, alignment = out / "config.json", models.alignment
    if alignment is not None and alignment.tokenizer is not None:
        alignment.tokenizer.save(str(out / TOKENIZER))
    if config.is_file():
        num_rows = None if alignment is None else alignment.num_rows
        changed = _config(json.loads(config.read_text(encoding="utf-8")), recipe.dtype, num_rows)
        config.write_text(json.dumps(changed, indent=2), encoding="utf-8")


def _config(data: dict[str, Any], dtype: str | None, num_rows: int | None) -> dict[str, Any]:
    """config.json of the result: its type, and the rows of its word matrices."""
    changed = {**data, "dtype": dtype} if dtype is not None else data
    if dtype is not None:
        changed.pop("torch_dtype", None)  # the older name of the same field
    if num_rows is not None:
        for part in (changed, changed.get("text_config")):
            if isinstance(part, dict) and "vocab_size" in part:
                part["vocab_size"] = num_rows
    return changed


def _rewrite_lineage(out: Path) -> None:
    """What a trained folder says about itself, now of a merge: a later stage knows it by its own weights."""
    path = out / LINEAGE
    if path.is_file():
        lineage = json.loads(path.read_text(encoding="utf-8"))
        lineage |= {"stage": "merge", "step": 0, "weights": _digest(out / CHECKSUMS)}
        path.write_text(json.dumps(lineage, indent=1), encoding="utf-8")


def _record(recipe: MergeRecipe) -> dict[str, Any]:
    """merge.json: the recipe, and what tells its inputs apart from others of the same name."""
    folders = [*([recipe.base] if recipe.base is not None else []), *(model.path for model in recipe.models)]
    return {
        "method": recipe.method,
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "inputs": {str(folder): _fingerprint(folder) for folder in folders},
    }


def _fingerprint(folder: Path) -> dict[str, str]:
    """SHA-256 of the files that say what a model is: its checksums, its index or its one file, its config."""
    names: Sequence[str] = (CHECKSUMS, INDEX, SINGLE, "config.json")
    found = {name: folder / name for name in names if (folder / name).is_file()}
    return {name: _digest(file) for name, file in found.items()}


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
