"""What each process of a launch does in test_text_only.py: trains on rows of which some show nothing.

torchrun --nproc-per-node 2 -m tests.train.text_only_process OUT TOKENIZER
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.modeling import KeyeForConditionalGeneration, build
from model.processing import Encoded, KeyeProcessor
from model.tokenizer import load_tokenizer
from model.visual_tokens import visual_budget
from train.engine import Engine, Processes, start_processes
from train.objectives.next_token import count_targets, loss_sum, sum_over_ranks
from train.stages import COMPONENTS, Stage

CONTEXT, STEPS = 96, 4
CASES = [(zero, case) for zero in (1, 2, 3) for case in ("one rank", "all ranks", "in turn", "frozen", "no row")]


def stage_of(zero: int, case: str) -> Stage:
    frozen = case == "frozen"
    return Stage.model_validate(
        {
            "stage": "text_only",
            "preset": "tiny",
            "init": {"tokenizer": "tokenizer"},
            "trainable": ["projector", "language"] if frozen else list(COMPONENTS),
            "context": CONTEXT,
            "batch_tokens": 2 * CONTEXT,
            "steps": STEPS,
            "optimizer": {"lr": 1e-3, "warmup_steps": 2},
            "zero": zero,
        }
    )


def rows_of(processor: KeyeProcessor, case: str, step: int) -> list[list[Encoded]]:
    """The two rows of a batch, one for each of two ranks; the case says which show a picture, and which are empty."""
    shows = {"all ranks": (False, False), "in turn": (step % 2 == 1, step % 2 == 0)}.get(case, (True, False))
    rows = [[_sample(processor, 2 * step + row, shown)] for row, shown in enumerate(shows)]
    return [rows[0], []] if case == "no row" and step % 2 else rows


def _sample(processor: KeyeProcessor, number: int, shown: bool) -> Encoded:
    picture = np.random.default_rng(number).integers(0, 256, (56, 84, 3), dtype=np.uint8)
    parts = [{"type": "image"}] * shown + [{"type": "text", "text": f"what is number {number}?"}]
    messages = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": [{"type": "text", "text": f"the lamp near window {number * number}"}]},
    ]
    return processor.encode(messages, [picture] * shown, labels=True)


def fresh_model(tokenizer: Path) -> tuple[KeyeForConditionalGeneration, KeyeProcessor]:
    torch.manual_seed(0)
    loaded = load_tokenizer(tokenizer)
    return build("tiny", loaded), KeyeProcessor(loaded, visual_budget("tiny"))


def train(zero: int, case: str, tokenizer: Path, processes: Processes) -> dict[str, Any]:
    """Loss and norm of the gradient of each step, and the weights after the last."""
    model, processor = fresh_model(tokenizer)
    engine = Engine(model, stage_of(zero, case), processes)
    engine.model.train()
    told = []
    for step in range(STEPS):
        rows = rows_of(processor, case, step)
        mine = rows if processes.world_size == 1 else [rows[processes.rank]]
        tensors = processor.pack(mine, CONTEXT)
        targets = sum_over_ranks(count_targets(tensors))
        total = loss_sum(engine.deepspeed, tensors)
        _, norm = engine.step(total * processes.world_size / targets, step)
        told.append((sum_over_ranks(total.item()) / targets, norm))
    with engine.whole_parameters():
        weights = {name: tensor.detach().clone() for name, tensor in engine.model.state_dict().items()}
    return {"steps": told, "weights": weights}


def main(out: str, tokenizer: str) -> None:
    processes = start_processes()
    for zero, case in CASES:
        kept = train(zero, case, Path(tokenizer), processes)
        torch.save(kept, Path(out) / f"{zero}-{case}-{processes.rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
