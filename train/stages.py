"""Stages are values: one frozen object says what a training run does, and nothing else decides it.

A recipe is the YAML form of `Stage`. Relative paths in it are relative to the run's folder (`--data DIR`),
so that one recipe serves every run.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from data_engine.sample import Modality
from strict_yaml import RecipeError, Strict, explain, parse_yaml

Component = Literal["vision", "projector", "language"]
COMPONENTS: tuple[Component, ...] = ("vision", "projector", "language")


class StageError(ValueError):
    """A stage that cannot run as it is: the message names what disagrees and the fix."""


class Init(Strict):
    """Where the weights come from: a trained stage or model folder (`from`), or the seed (`tokenizer`)."""

    source: str | None = Field(default=None, alias="from")
    tokenizer: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.source is None) == (self.tokenizer is None):
            raise ValueError(
                "give either `from` (a folder with weights and their tokenizer) or `tokenizer` (fresh weights)"
            )
        return self


class Phase(Strict):
    """Shares of tokens that hold for so many steps of full rows."""

    steps: int = Field(gt=0)
    shares: dict[Modality, float]


class Data(Strict):
    """Which samples, in which proportion of tokens, and who reads them.

    `corpora: null` takes every corpus of the manifest. `phases` come first, one after the other; then `mixture` holds.
    `repeats`: a table of how often each sample comes (`data_engine.repeats`).
    `workers` I/O servers (0: the trainer itself) read and encode, as processes or Ray actors; one that is at a batch
    for `timeout` seconds is replaced. `max_failures` unreadable samples in a row are left out, on record. `ledger`
    keeps which sample was consumed at which place. `cost`: a cost model that `keyeforge train cost` fitted, by which
    rows are dealt to ranks (null: by FLOPs).
    """

    manifest: str = "shards/manifest.json"
    mixture: dict[Modality, float] | None = None
    phases: list[Phase] = Field(default_factory=list)
    repeats: str | None = None
    corpora: list[str] | None = None
    workers: int = Field(default=1, ge=0)
    workers_kind: Literal["process", "ray"] = "process"
    timeout: float = Field(default=120.0, gt=0)
    max_failures: int = Field(default=0, ge=0)
    ledger: bool = False
    cost: str | None = None

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        shares = self.mixture
        if shares is not None and (abs(sum(shares.values()) - 1) > 1e-6 or min(shares.values()) <= 0):
            raise ValueError(f"mixture shares {shares} must be positive and sum to 1")
        if (self.phases or self.repeats) and shares is None:
            raise ValueError("phases and repeats belong to a mixture: give `mixture`, the shares that hold after them")
        return self


class Packing(Strict):
    """How samples are packed into rows of `context` tokens: how far ahead a row may look for what fills it, and what a
    row may hold besides: pictures (images and frames), and patches of them (null: any number).
    """

    look_ahead: int = Field(default=4096, ge=1, le=4096)
    max_pictures: int | None = Field(default=None, gt=0)
    max_patches: int | None = Field(default=None, gt=0)


class Optimizer(Strict):
    """AdamW with a linear warm-up and a cosine down to `final_lr_share` of `lr`."""

    lr: float = Field(gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup_steps: int = Field(default=20, ge=0)
    final_lr_share: float = Field(default=0.1, ge=0, le=1)
    grad_clip: float = Field(default=1.0, gt=0)


class Heldout(Strict):
    """How many held-out samples the stage is judged on, with the right media and with shuffled ones."""

    samples: int = Field(default=256, ge=0)


class Checkpoint(Strict):
    """A checkpoint every so many steps and at the end; only the last `keep` stay."""

    every: int = Field(default=200, gt=0)
    keep: int = Field(default=1, gt=0)


class Stage(Strict):
    """One stage of training.

    A batch is `batch_tokens // context` rows of `context` tokens over all ranks. `zero` is DeepSpeed's ZeRO
    stage. `precision: bf16` keeps float32 master weights in the optimiser.
    """

    stage: str = Field(pattern=r"^[a-z0-9_]+$")
    preset: str
    init: Init
    trainable: tuple[Component, ...] = Field(min_length=1)
    data: Data = Data()
    packing: Packing = Packing()
    context: int = Field(gt=0)
    rope_base: float = Field(default=1_000_000, gt=0)
    batch_tokens: int = Field(gt=0)
    steps: int = Field(gt=0)
    optimizer: Optimizer
    zero: Literal[1, 2, 3] = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    heldout: Heldout = Heldout()
    checkpoint: Checkpoint = Checkpoint()

    @property
    def rows(self) -> int:
        """Rows of `context` tokens in one global batch."""
        return self.batch_tokens // self.context

    @property
    def frozen(self) -> tuple[Component, ...]:
        return tuple(part for part in COMPONENTS if part not in self.trainable)

    @model_validator(mode="after")
    def _whole_rows(self) -> Self:
        if self.batch_tokens % self.context:
            raise ValueError(f"batch_tokens {self.batch_tokens} is not a multiple of context {self.context}")
        if len(set(self.trainable)) != len(self.trainable):
            raise ValueError(f"trainable names a component twice: {list(self.trainable)}")
        return self


class Lineage(Strict):
    """What a checkpoint says about itself: the transition check of the next stage reads it.

    `weights` is a SHA-256 over all weights: a stage knows by it whether what it started from has changed.
    """

    stage: str
    step: int
    preset: str
    context: int
    rope_base: float
    trained: tuple[Component, ...]
    weights: str


def load_stage(path: Path, overrides: Sequence[str] = ()) -> Stage:
    """Reads a recipe and applies `key=value` overrides (dotted keys, YAML values).

    Raises RecipeError with one line per fault: file, field, and the nearest right key for a wrong one.
    """
    stage = parse_yaml(path, Stage)
    if not overrides:
        return stage
    raw = stage.model_dump(by_alias=True)
    for override in overrides:
        _override(raw, override)
    try:
        return Stage.model_validate(raw)
    except ValidationError as error:
        faults = (explain(Path("command line"), Stage, fault) for fault in error.errors())
        raise RecipeError("\n".join(faults)) from error


def _override(raw: dict[str, Any], override: str) -> None:
    """Sets one dotted key of a dumped stage in place."""
    key, equals, value = override.partition("=")
    if not equals:
        raise RecipeError(f"command line: {override!r} is not key=value, for example optimizer.lr=3e-4")
    known = _keys(raw)
    if key not in known and not key.startswith("data.mixture."):
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        raise RecipeError(f"command line: {key}: unknown key; {hint}")
    *parents, last = key.split(".")
    node = raw
    for part in parents:
        node[part] = node[part] or {}
        node = node[part]
    node[last] = _scalar(value)


def _keys(node: dict[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for name, value in node.items():
        keys.append(f"{prefix}{name}")
        if isinstance(value, dict):
            keys += _keys(value, f"{prefix}{name}.")
    return keys


def _scalar(value: str) -> Any:
    """A YAML value; `1e-3`, which YAML 1.1 takes for text, is the number it looks like."""
    parsed = yaml.safe_load(value)
    if isinstance(parsed, str):
        try:
            return float(parsed)
        except ValueError:
            return parsed
    return parsed


def check_transition(stage: Stage, previous: Lineage | None) -> None:
    """Refuses a stage that does not follow from the checkpoint it starts from.

    `previous` is None for weights drawn from the seed. Raises StageError.
    """
    if previous is None:
        if "language" not in stage.trainable:
            raise StageError(
                f"{stage.stage}: the language model is frozen and has never been trained; "
                "set init.from to a checkpoint, or add language to trainable"
            )
        return
    if previous.preset != stage.preset:
        raise StageError(
            f"{stage.stage}: preset {stage.preset!r} cannot start from {previous.stage!r}, "
            f"which is {previous.preset!r}; set preset to it or choose another init.from"
        )
    if "language" in stage.frozen and "language" not in previous.trained:
        raise StageError(
            f"{stage.stage}: the language model is frozen and {previous.stage!r} never trained it; "
            "add language to trainable or choose another init.from"
        )
    if stage.rope_base != previous.rope_base and stage.context <= previous.context:
        raise StageError(
            f"{stage.stage}: rope_base goes from {previous.rope_base:g} to {stage.rope_base:g} while the context "
            f"stays at {stage.context} (it was {previous.context}); a base is reset only to lengthen the context: "
            "set rope_base back or raise context"
        )
    if stage.rope_base < previous.rope_base:
        raise StageError(
            f"{stage.stage}: rope_base falls from {previous.rope_base:g} to {stage.rope_base:g}; "
            "a longer context needs a larger base"
        )


def lineage_of(folder: Path) -> Lineage:
    """The lineage of a checkpoint's model folder. Raises StageError where it has none."""
    path = folder / "lineage.json"
    if not path.is_file():
        raise StageError(f"{folder}: no lineage.json, so this is no checkpoint of a stage; run that stage first")
    return Lineage.model_validate_json(path.read_text(encoding="utf-8"))
