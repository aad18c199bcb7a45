"""The model's figures on one machine, each against its other side in the same run, the two in turn.

    python benchmarks/architecture.py [training] [vision] [positions] [loss] [--samples 64]

training   forward and backward of preset `0.1b` over benchmarks/trace.json: packed rows of 2,048 tokens, against the
           same model on the same samples in batches of 8 padded to the longest, and against transformers' Qwen2.5-VL
           of equal sizes on those same padded batches
vision     the vision tower of `0.1b` on 256 equal images: one packed call against a call for each
positions  positions of a sample of 128K tokens with 1,300 frames
loss       the largest tensor in the loss of 32K tokens over 151,936 words, counted on the meta device
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from model.head import LanguageHead
from model.modeling import KeyeForConditionalGeneration, config_of
from model.rope import position_ids
from train.feed.packing import Limits, pack, sizes_of

TRACE = Path(__file__).parent / "trace.json"
ROW = 2048
BATCH = 8
CHUNK = 32
"""Samples between which the sides take turns."""

Sample = dict[str, Any]
Tensors = dict[str, torch.Tensor]


def main() -> None:
    parts = {"training": training, "vision": vision, "positions": positions, "loss": loss}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", choices=[*parts, []], help="all without")
    parser.add_argument("--samples", type=int, default=64, help="samples of the trace in `training`")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name in options.part or parts:
        torch.manual_seed(0)
        parts[name](options)


# training


def training(options: argparse.Namespace) -> None:
    trace = json.loads(TRACE.read_text(encoding="utf-8"))[: options.samples]
    model = KeyeForConditionalGeneration(config_of("0.1b")).train()
    sides: dict[str, tuple[Callable[..., Any], Callable[[Sequence[Sample]], list[Tensors]]]] = {
        "packed": (model, packed),
        "padded, batches of 8": (model, padded),
        "Qwen2.5-VL, padded": (qwen(model.config).train(), padded_for_qwen),
    }
    wall, cpu, slots = (dict.fromkeys(sides, 0.0) for _ in range(3))
    for forward, batches in sides.values():  # not counted: the first pass warms the allocator
        step(forward, batches(trace[:2])[:1])
    for start in range(0, len(trace), CHUNK):
        for name, (forward, batches) in sides.items():
            made = batches(trace[start : start + CHUNK])
            slots[name] += sum(one["input_ids"].numel() for one in made)
            began = time.perf_counter(), time.process_time()
            step(forward, made)
            wall[name] += time.perf_counter() - began[0]
            cpu[name] += time.process_time() - began[1]
    tokens = sum(sample["tokens"] for sample in trace)
    print(f"\ntraining: {len(trace)} samples, {tokens:,} tokens, forward and backward")
    print(f"{'':<24}{'seconds':>9}{'CPU-s':>9}{'tokens/s':>10}{'filled':>8}{'packed is':>11}")
    for name in sides:
        print(
            f"{name:<24}{wall[name]:>9.1f}{cpu[name]:>9.1f}{tokens / wall[name]:>10.1f}{tokens / slots[name]:>8.1%}"
            f"{wall[name] / wall['packed']:>10.2f}x"
        )
    holds = wall["padded, batches of 8"] / wall["packed"] >= 1.5
    print(f"goal: packed >= 1.5x padded: {'yes' if holds else 'NO'}")


def step(forward: Callable[..., Any], batches: Sequence[Tensors]) -> None:
    """Forward and backward of every batch; gradients are dropped, as an optimiser would."""
    for tensors in batches:
        forward(**tensors).loss.backward()
        for parameter in forward.parameters():  # type: ignore[attr-defined]
            parameter.grad = None


def arrays(sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Token ids (random words, placeholders where the trace says), labels, positions, grids."""
    config = config_of("0.1b")
    random = np.random.default_rng(sample["tokens"])
    ids = random.integers(0, 150_000, sample["tokens"])
    grids = np.array([(1, rows, columns) for _, rows, columns in sample["blocks"]], dtype=np.int64).reshape(-1, 3)
    for first, rows, columns in sample["blocks"]:
        ids[first : first + rows * columns // 4] = config.image_token_id
    labels = np.full_like(ids, -100)
    labels[len(ids) - sample["targets"] :] = ids[len(ids) - sample["targets"] :]
    return ids, labels, position_ids(ids == config.image_token_id, grids), grids


def collate(rows: Sequence[Sequence[Sample]], length: int) -> Tensors:
    """Rows of samples end to end, with `segment_ids`."""
    shape = (len(rows), length)
    ids, labels, segments = np.zeros(shape, int), np.full(shape, -100), np.zeros(shape, int)
    places, grids = np.zeros((3, *shape), int), []
    for row, members in enumerate(rows):
        start = 0
        for number, sample in enumerate(members, start=1):
            span = slice(start, start + sample["tokens"])
            ids[row, span], labels[row, span], places[:, row, span], found = arrays(sample)
            segments[row, span] = number
            grids.append(found)
            start = span.stop
    grid = np.concatenate(grids)
    tensors = {"input_ids": ids, "labels": labels, "segment_ids": segments, "position_ids": places, "grid_thw": grid}
    made = {name: torch.from_numpy(array) for name, array in tensors.items()}
    patches = int(grid[:, 1:].prod(axis=1).sum())
    return {**made, "pixel_values": torch.rand(patches, 3, 14, 14) * 2 - 1}


def packed(samples: Sequence[Sample]) -> list[Tensors]:
    tokens = [sample["tokens"] for sample in samples]
    rows = pack(sizes_of(tokens, np.zeros(len(tokens)), np.zeros(len(tokens))), Limits(ROW))
    return [collate([[samples[place] for place in row.positions]], ROW) for row in rows]


def padded(samples: Sequence[Sample]) -> list[Tensors]:
    made = []
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        tensors = collate([[sample] for sample in batch], max(sample["tokens"] for sample in batch))
        tensors["attention_mask"] = (tensors.pop("segment_ids") > 0).long()
        made.append(tensors)
    return made


def padded_for_qwen(samples: Sequence[Sample]) -> list[Tensors]:
    """The same batches in Qwen2.5-VL's form: each picture twice in time, its own positions."""
    made = []
    for tensors in padded(samples):
        pixels = tensors["pixel_values"]
        grids = tensors.pop("grid_thw")
        del tensors["position_ids"]
        types = (tensors["input_ids"] == config_of("0.1b").image_token_id).int()
        pair = pixels[:, :, None].expand(-1, -1, 2, -1, -1).flatten(1)
        made.append({**tensors, "pixel_values": pair, "image_grid_thw": grids, "mm_token_type_ids": types})
    return made


def qwen(config: Any) -> Qwen2_5_VLForConditionalGeneration:
    """transformers' model with the widths, depths and heads of ours."""
    seen, text = config.vision_config, config.text_config
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    words = {name: getattr(text, name) for name in (*sizes, "num_key_value_heads", "tie_word_embeddings")}
    eyes = {
        "depth": seen.num_hidden_layers,
        "hidden_size": seen.hidden_size,
        "intermediate_size": seen.intermediate_size,
        "num_heads": seen.num_attention_heads,
        "out_hidden_size": text.hidden_size,
        "fullatt_block_indexes": list(range(seen.num_hidden_layers)),
    }
    words["rope_parameters"] = {**text.rope_parameters, "rope_type": "default"}
    made = Qwen2_5_VLConfig(
        text_config=words, vision_config=eyes, image_token_id=config.image_token_id, tie_word_embeddings=True
    )
    return Qwen2_5_VLForConditionalGeneration._from_config(made, attn_implementation="sdpa")


# vision


@torch.inference_mode()
def vision(_: argparse.Namespace) -> None:
    tower = KeyeForConditionalGeneration(config_of("0.1b")).visual.eval()
    print("\nvision tower of 0.1b, 256 images: one packed call against a loop")
    print(f"{'pixels':<12}{'patches':>8}{'packed, ms':>12}{'loop, ms':>10}{'ratio':>8}")
    for side in (28, 56, 84, 112):
        grid = (side // 14, side // 14)
        pixels = torch.rand(256 * grid[0] * grid[1], 3, 14, 14)
        times = alternate(
            lambda pixels=pixels, grid=grid: tower(pixels, [grid] * 256),
            lambda pixels=pixels, grid=grid: [tower(one, [grid]) for one in pixels.split(grid[0] * grid[1])],
        )
        size, ratio = f"{side} x {side}", times[1] / times[0]
        print(f"{size:<12}{grid[0] ** 2:>8}{times[0] * 1e3:>12.0f}{times[1] * 1e3:>10.0f}{ratio:>7.1f}x")
    print("goal: >= 3x on small images; larger ones fill the machine by themselves")


def alternate(*sides: Callable[[], Any], runs: int = 3) -> list[float]:
    """Median seconds of each side, the sides in turn, after a round that is not counted."""
    seconds: list[list[float]] = [[] for _ in sides]
    for turn in range(runs + 1):
        for side, found in zip(sides, seconds, strict=True):
            began = time.perf_counter()
            side()
            if turn:
                found.append(time.perf_counter() - began)
    return [median(found) for found in seconds]


# positions


def positions(_: argparse.Namespace) -> None:
    is_visual, grids = [], []
    for frame in range(1300):
        rows, columns = (9, 12) if frame % 3 == 0 else (5, 8)
        is_visual += [False] * 6 + [True] * (rows * columns)
        grids.append((1, 2 * rows, 2 * columns))
    marks = np.array(is_visual + [False] * (131_072 - len(is_visual)))
    grid_thw = np.array(grids)
    (seconds,) = alternate(lambda: position_ids(marks, grid_thw), runs=21)
    print(f"\npositions of {len(marks):,} tokens, {len(grids):,} frames: {seconds * 1e3:.1f} ms; goal < 10 ms")


# loss


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that any operation inside makes."""

    num_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else [out]:
            if isinstance(one, torch.Tensor):
                self.num_bytes = max(self.num_bytes, one.nbytes)
        return out


def loss(_: argparse.Namespace) -> None:
    tokens, words, width = 32_768, 151_936, 4096
    with torch.device("meta"):
        head, hidden = LanguageHead(width, words), torch.empty(tokens, width, requires_grad=True)
        targets = torch.empty(tokens, dtype=torch.long)
    with Largest() as chunked:
        head(hidden, targets).backward()
    with Largest() as whole:
        cross_entropy(head(hidden), targets).backward()
    print(f"\nloss of {tokens:,} tokens, {words:,} words, width {width:,}, forward and backward, largest tensor:")
    print(
        f"chunked {chunked.num_bytes / 2**30:.2f} GiB (the weight's gradient), whole {whole.num_bytes / 2**30:.2f} GiB"
    )
    print(f"goal: no full logits: {'yes' if chunked.num_bytes < tokens * words * 4 else 'NO'}")


if __name__ == "__main__":
    main()
