"""The model a stage starts with: weights, tokenizer and lineage, checked against what the stage wants."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers.utils import logging

from model.modeling import KeyeForConditionalGeneration, build
from model.processing import KeyeProcessor
from model.tokenizer import load_tokenizer
from model.visual_tokens import visual_budget
from train.checkpoint import checkpoints
from train.engine import fingerprint
from train.stages import COMPONENTS, Lineage, Stage, StageError, check_transition, lineage_of

logging.disable_progress_bar()  # one a checkpoint, through the middle of the stage's own


@dataclass(frozen=True, slots=True)
class Start:
    """A model ready to be trained, its processor, and what it was before (None: fresh weights)."""

    model: KeyeForConditionalGeneration
    processor: KeyeProcessor
    folder: Path | None
    previous: Lineage | None

    def lineage(self, stage: Stage, step: int) -> Lineage:
        """What the stage's checkpoint says about itself."""
        before = self.previous.trained if self.previous else ()
        return Lineage(
            stage=stage.stage,
            step=step,
            preset=stage.preset,
            context=stage.context,
            rope_base=stage.rope_base,
            trained=tuple(part for part in COMPONENTS if part in {*before, *stage.trainable}),
            weights=fingerprint(self.model),
        )


def start(stage: Stage, data: Path) -> Start:
    """Loads or draws the weights. Raises StageError where they are missing or do not suit the stage."""
    if stage.init.source is None:
        check_transition(stage, None)
        tokenizer = load_tokenizer(data / str(stage.init.tokenizer))
        torch.manual_seed(stage.seed)
        model = build(stage.preset, tokenizer)
        model.reset_rope(stage.rope_base)
        return Start(model, KeyeProcessor(tokenizer, visual_budget(stage.preset)), None, None)
    folder = model_folder(data / stage.init.source)
    previous = lineage_of(folder)
    check_transition(stage, previous)
    model = load_model(folder)
    model.reset_rope(stage.rope_base)
    return Start(model, KeyeProcessor.from_pretrained(folder), folder, previous)


def model_folder(path: Path) -> Path:
    """`path` itself if it holds a model, else the latest checkpoint of that stage. Raises StageError."""
    if (path / "config.json").is_file():
        return path
    found = checkpoints(path)
    if not found:
        raise StageError(f"{path}: neither a model folder nor a trained stage; run that stage first, or set init.from")
    return found[-1] / "model"


def load_model(folder: Path) -> KeyeForConditionalGeneration:
    """The model in `folder`, float32. Raises StageError for a weight that is missing or left over."""
    model, report = KeyeForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[kind]:
            raise StageError(f"{folder}: {kind.replace('_', ' ')}: {sorted(map(str, report[kind]))[0]}")
    return model  # type: ignore[no-any-return]


def save_model(start: Start, stage: Stage, step: int, folder: Path) -> None:
    """A folder that `from_pretrained` reads: weights, config, tokenizer, processor, lineage."""
    start.model.save_pretrained(folder)
    start.processor.save_pretrained(folder)
    (folder / "lineage.json").write_text(start.lineage(stage, step).model_dump_json(indent=1), encoding="utf-8")
