"""Layers of the 8B shape on a GPU in bf16, against the machine's own limits, all in one run.

    python benchmarks/gpu.py [--device cuda] [--small]

The matrix rate and the memory bandwidth are measured first, with one large product and one large copy. Then, forward
and backward, a vision layer over packed images and a decoder layer over a packed row, as FLOPs (by `model.cost`) a
second, as a share of the matrix rate; and one decoding step of all decoder layers' shape against the time that reading
its weights and cache once must take. `--small` (float32, preset 0.1b) with `--device cpu` only shows that it runs.
"""

import argparse
import time
from collections.abc import Callable
from copy import deepcopy
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from model.attention import has_flash
from model.cost import language_flops, vision_flops
from model.language import attention_inputs, build_language_model
from model.modeling import config_of
from model.vision import KeyeVisionTransformer

LAYERS = 2
"""Of each tower: enough to hide the ends, little enough for any GPU."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing measured (--device cpu --small shows that it runs)")
        return
    device, scale = torch.device(options.device), 16 if options.small else 1
    preset = "0.1b" if options.small else "8b"
    torch.set_default_dtype(torch.float32 if options.small else torch.bfloat16)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    rate, bandwidth = matrix_rate(device, 8192 // scale), memory_bandwidth(device, 2**30 // scale**2)
    probe = torch.zeros(1, device=device)
    attention = "torch's varlen flash" if has_flash(probe) else "grouped SDPA"
    print(f"{name}, torch {torch.__version__}, attention by {attention}")
    print(f"matrix rate {rate / 1e12:.2f} TFLOP/s, memory {bandwidth / 1e9:.1f} GB/s, both measured now\n")
    print(f"{'work':<44}{'ms':>9}{'TFLOP/s':>9}{'share':>8}  goal")
    for label, seconds, flops in (vision(device, preset, scale), decoder(device, preset, scale)):
        share = flops / seconds / rate
        print(f"{label:<44}{seconds * 1e3:>9.2f}{flops / seconds / 1e12:>9.2f}{share:>8.1%}  >= 60 %")
    label, seconds, floor = decode_step(device, preset, bandwidth, scale)
    print(f"{label:<44}{seconds * 1e3:>9.2f}{'':>9}{seconds / floor:>7.2f}x  <= 1.3x of the memory floor")


def timed(work: Callable[[], Any], device: torch.device, runs: int = 10) -> float:
    """Median seconds of `work`, after three runs that are not counted."""
    seconds = []
    for turn in range(runs + 3):
        synchronise(device)
        began = time.perf_counter()
        work()
        synchronise(device)
        if turn >= 3:
            seconds.append(time.perf_counter() - began)
    return median(seconds)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(device: torch.device, side: int) -> float:
    """FLOPs a second of a square product in bf16."""
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    return 2 * side**3 / timed(lambda: a @ b, device)


def memory_bandwidth(device: torch.device, num_bytes: int) -> float:
    """Bytes a second, read and written, of a copy."""
    source = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * num_bytes / timed(lambda: target.copy_(source), device)


def vision(device: torch.device, preset: str, scale: int) -> tuple[str, float, int]:
    """Forward and backward of the vision layers over images of three sizes, packed."""
    config = deepcopy(config_of(preset).vision_config)
    config.num_hidden_layers = LAYERS
    tower = KeyeVisionTransformer(config).to(device).train()
    grids = [(40, 72)] * (8 // min(scale, 8)) + [(28, 38)] * (16 // scale) + [(22, 38)] * (16 // scale)
    patches = sum(rows * columns for rows, columns in grids)
    pixels = torch.randn(patches, 3, 14, 14, device=device)

    def work() -> None:
        tower(pixels, grids).sum().backward()

    label = f"vision, {LAYERS} layers, {patches:,} patches, {len(grids)} images"
    return label, timed(work, device), 3 * vision_flops(config, grids)


def text_config(preset: str, layers: int) -> Any:
    config = deepcopy(config_of(preset).text_config)
    config.num_hidden_layers, config.vocab_size = layers, 1024
    config.layer_types = config.layer_types[:layers]
    return config


def decoder(device: torch.device, preset: str, scale: int) -> tuple[str, float, int]:
    """Forward and backward of decoder layers over a packed row of samples of three lengths."""
    config = text_config(preset, LAYERS)
    model = build_language_model(config).to(device).train()
    lengths = [length // scale for length in (4096, 2048, 1024, 512, 512)]
    segments = torch.cat([torch.full((length,), place + 1) for place, length in enumerate(lengths)])[None].to(device)
    positions = torch.cat([torch.arange(length) for length in lengths]).expand(3, 1, -1).to(device)
    embeds = torch.randn(1, sum(lengths), config.hidden_size, device=device, requires_grad=True)

    def work() -> None:
        attention = attention_inputs(config, embeds, None, segments, None)
        out = model(inputs_embeds=embeds, position_ids=positions, use_cache=False, **attention)
        out.last_hidden_state.sum().backward()

    label = f"decoder, {LAYERS} layers, {sum(lengths):,} tokens, {len(lengths)} samples"
    return label, timed(work, device), 3 * language_flops(config, lengths)


@torch.inference_mode()
def decode_step(device: torch.device, preset: str, bandwidth: float, scale: int) -> tuple[str, float, float]:
    """One token for one sequence: seconds, and the seconds that reading weights and cache once takes at best."""
    layers, context = 36 // min(scale, 18), 4096 // scale
    config = text_config(preset, layers)
    model = build_language_model(config).to(device).eval()
    cache = DynamicCache(config=config)
    prompt = torch.randn(1, context, config.hidden_size, device=device)
    model(inputs_embeds=prompt, position_ids=place(0, context, device), past_key_values=cache, use_cache=True)
    token = prompt[:, -1:]

    def work() -> None:
        at = cache.get_seq_length()
        attention = attention_inputs(config, token, None, None, cache)
        model(
            inputs_embeds=token, position_ids=place(at, 1, device), past_key_values=cache, use_cache=True, **attention
        )

    weights = sum(p.numel() for p in model.layers.parameters()) * token.element_size()
    kept = 2 * layers * context * config.num_key_value_heads * config.head_dim * token.element_size()
    label = f"decoding step, {layers} layers, {context:,} tokens in the cache"
    return label, timed(work, device), (weights + kept) / bandwidth


def place(start: int, count: int, device: torch.device) -> Tensor:
    return torch.arange(start, start + count, device=device).expand(3, 1, -1)


if __name__ == "__main__":
    main()
