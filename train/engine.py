"""One engine: DeepSpeed ZeRO-1/2/3 on CPU or GPU, one process or many.

On a CPU nothing is compiled: torch's own AdamW is used, and the shared-memory extension that DeepSpeed
would build with a C++ compiler at start is switched off (gloo does its work).
"""

import hashlib
import importlib
import json
import math
import os
import shutil
import socket
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from model.modeling import KeyeForConditionalGeneration
from train.checkpoint import partial_of, publish, read_state, sync
from train.reshard import load_resharded
from train.stages import COMPONENTS, Component, Optimizer, Stage

PREFIXES: dict[Component, tuple[str, ...]] = {
    "vision": ("visual.",),
    "projector": ("mlp_AR.",),
    "language": ("model.", "lm_head."),
}


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that train together."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def start_processes() -> Processes:
    """Joins the processes a launcher started (torchrun, deepspeed), or makes a group of one."""
    if "RANK" not in os.environ:
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1")
        os.environ["MASTER_PORT"] = str(_free_port())
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "warning")
    # DeepSpeed calls torch's collectives by their old names, once a step.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    import deepspeed
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    _import_muon()
    if not torch.distributed.is_initialized():
        deepspeed.init_distributed(verbose=False)
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    return Processes(torch.distributed.get_rank(), torch.distributed.get_world_size(), device)


def _import_muon() -> None:
    """Imports DeepSpeed's Muon optimiser, which ZeRO asks for whatever the optimiser, without its compiled kernels.

    Nothing here uses Muon, and preparing torch's compiler for it costs 4 CPU-seconds at each start.
    """
    from deepspeed.runtime import compiler

    decorate = compiler.compile
    compiler.compile = lambda *_, **__: lambda function: function
    importlib.import_module("deepspeed.runtime.zero.muon.original_muon")
    compiler.compile = decorate


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def component_of(name: str) -> Component:
    """The component a parameter belongs to. Raises KeyError for a name outside the known ones."""
    for component in COMPONENTS:
        if name.startswith(PREFIXES[component]):
            return component
    raise KeyError(f"parameter {name} belongs to none of {COMPONENTS}")


def freeze(model: nn.Module, trainable: Iterable[Component]) -> None:
    """Lets gradients flow into the parameters of `trainable` and no others."""
    chosen = set(trainable)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(component_of(name) in chosen)


def adamw(model: nn.Module, settings: Optimizer) -> torch.optim.AdamW:
    """torch's AdamW over what is trainable; matrices decay, vectors (norms, biases) and embeddings do not."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (kept if parameter.ndim < 2 or "embed" in name else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=settings.lr, betas=settings.betas, fused=True
    )


def learning_rate(step: int, steps: int, settings: Optimizer) -> float:
    """The rate of step `step` (from 0): linear from lr/warmup to lr, then a cosine to final_lr_share * lr."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    share = settings.final_lr_share
    return settings.lr * (share + (1 - share) * 0.5 * (1 + math.cos(math.pi * progress)))


class Engine:
    """A model under DeepSpeed: one optimiser step, and checkpoints that continue it exactly."""

    def __init__(self, model: KeyeForConditionalGeneration, stage: Stage, processes: Processes) -> None:
        """Takes `model` over: freezes what the stage does not train and builds the optimiser."""
        import deepspeed

        self.model, self.stage, self.processes = model, stage, processes
        freeze(model, stage.trainable)
        self.deepspeed, *_ = deepspeed.initialize(
            model=model, optimizer=adamw(model, stage.optimizer), config=_deepspeed_config(stage, processes)
        )

    def step(self, loss: torch.Tensor, step: int) -> tuple[float, float]:
        """Backward and one update. Returns the rate used and the norm of the gradient before clipping.

        DeepSpeed averages gradients over ranks, so `loss` is this rank's share of the global loss times the
        number of ranks.
        """
        rate = learning_rate(step, self.stage.steps, self.stage.optimizer)
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = rate
        self.deepspeed.backward(loss)
        self.deepspeed.step()
        return rate, float(self.deepspeed.get_global_grad_norm())

    @contextmanager
    def whole_parameters(self) -> Iterator[None]:
        """Inside, every parameter is whole on every rank (ZeRO-3 keeps them apart)."""
        if self.stage.zero < 3:
            yield
            return
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(self.model.parameters())):
            yield

    def checksums(self, components: Iterable[Component]) -> dict[str, str]:
        """`checksums` of some components, whole on every rank."""
        with self.whole_parameters():
            every = checksums(self.model)
        return {component: every[component] for component in components}

    def num_parameters(self) -> dict[str, int]:
        """Parameters of each component."""
        counts: dict[str, int] = dict.fromkeys(COMPONENTS, 0)
        for name, parameter in self.model.named_parameters():
            counts[component_of(name)] += getattr(parameter, "ds_numel", parameter.numel())
        return counts

    def save(self, folder: Path, state: dict[str, Any], save_model: Callable[[Path], None]) -> None:
        """Writes a checkpoint to `folder`, which appears whole or not at all.

        `save_model(folder)` is called on the first process, with whole parameters.
        """
        partial = partial_of(folder)
        if self.processes.is_first:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        torch.distributed.barrier()
        self.deepspeed.save_checkpoint(str(partial / "optimizer"), tag="state", save_latest=False)
        torch.save(torch.get_rng_state(), partial / f"rng-{self.processes.rank}.pt")
        with self.whole_parameters():
            if self.processes.is_first:
                save_model(partial / "model")
                (partial / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
        sync(partial.rglob("*"))  # on whatever machine: a file reaches the disk from where it was written
        torch.distributed.barrier()
        if self.processes.is_first:
            publish(folder)
        torch.distributed.barrier()

    def load(self, folder: Path) -> None:
        """Takes weights, optimiser and random state up where `save` left them.

        On another number of processes the optimiser's state is cut anew, exactly, and each process draws afresh, from
        the seed, the step and its rank.
        """
        state, processes = read_state(folder), self.processes
        if state["processes"] == processes.world_size:
            self.deepspeed.load_checkpoint(str(folder / "optimizer"), tag="state")
            torch.set_rng_state(torch.load(folder / f"rng-{processes.rank}.pt"))
            return
        saved = folder / "optimizer" / "state", self.stage.zero, state["processes"]
        load_resharded(self.deepspeed.optimizer, *saved, processes.rank, processes.world_size)
        drawn = np.random.SeedSequence([self.stage.seed, state["step"], processes.rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(drawn[0]))


def checksums(model: nn.Module) -> dict[str, str]:
    """SHA-256 over the names and bytes of each component's tensors."""
    digests = {component: hashlib.sha256() for component in COMPONENTS}
    for name, tensor in sorted(model.state_dict().items()):
        digest = digests[component_of(name)]
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return {component: digest.hexdigest() for component, digest in digests.items()}


def fingerprint(model: nn.Module) -> str:
    """One SHA-256 for all weights."""
    return hashlib.sha256(json.dumps(checksums(model)).encode()).hexdigest()


def _deepspeed_config(stage: Stage, processes: Processes) -> dict[str, Any]:
    return {
        "train_batch_size": stage.rows,
        "train_micro_batch_size_per_gpu": stage.rows // processes.world_size,
        "gradient_clipping": stage.optimizer.grad_clip,
        "zero_optimization": {"stage": stage.zero},
        "bf16": {"enabled": stage.precision == "bf16"},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
