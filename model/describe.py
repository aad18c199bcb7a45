"""A model in tables: its architecture, its parameters, and what it costs to show it something."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from transformers import AutoConfig

from model.checkpoint import budget_of
from model.configuration import KeyeConfig
from model.cost import Grid, Parameters, language_flops, parameters, sample_flops
from model.modeling import config_of
from model.visual_tokens import Size, VisualBudget, image_size, num_tokens, plan_video, visual_budget

SHOWN = (720, 1280)
"""Height and width in pixels of the image and the video whose cost is shown."""

SLOW_EVERY = 4
"""Of the video's frames one in so many is slow: about what a film with a cut every two seconds gives."""

FOOTNOTE = (
    f"Image and video of {SHOWN[1]} x {SHOWN[0]}, one frame in {SLOW_EVERY} slow, as each model's budget allows. "
    "TFLOPs of a forward pass over vision tower, projector and language model; training takes three times as many."
)


@dataclass(frozen=True, slots=True)
class Described:
    """A preset or a model's folder."""

    name: str
    config: KeyeConfig
    budget: VisualBudget
    counts: Parameters


def describe(name: str) -> Described:
    """A preset, or a folder where there is one of that name. Raises ValueError for neither."""
    folder = Path(name)
    if not (folder / "config.json").is_file():
        config = config_of(name)
        return Described(name, config, visual_budget(name), parameters(config))
    config = AutoConfig.from_pretrained(folder)
    if not isinstance(config, KeyeConfig):
        raise ValueError(f"{folder}: model_type {config.model_type!r}, not {KeyeConfig.model_type!r}")
    return Described(folder.name, config, budget_of(folder) or visual_budget("8b"), parameters(config))


def architecture_table(one: Described) -> Table:
    """The sizes of all three parts."""
    vision, text = one.config.vision_config, one.config.text_config
    rope, side, merged = text.rope_parameters, vision.table_side, vision.spatial_merge_size**2 * vision.hidden_size
    resets = [(r["from"]["rope_theta"], r["to"]["rope_theta"]) for r in one.config.rope_resets or ()]
    tied = "tied" if one.config.tie_word_embeddings else "separate"
    rows = [
        ("vision tower", _sizes(vision)),
        ("", f"{vision.num_attention_heads} heads of {vision.head_dim}, patch {vision.patch_size}, native resolution"),
        ("", f"position table {side} x {side}, interpolated; 2D RoPE, base {vision.rope_theta:,.0f}"),
        ("projector", f"2 x 2 patches merged: {merged} -> {merged} -> {text.hidden_size}"),
        ("language model", _sizes(text)),
        ("", f"{text.num_attention_heads} heads of {text.head_dim}, {text.num_key_value_heads} for keys and values"),
        ("", f"{text.vocab_size:,} tokens, {tied} output layer"),
        ("", f"RoPE base {rope['rope_theta']:,.0f}, sections {rope['mrope_section']} (time, height, width)"),
        ("context", f"{text.max_position_embeddings:,} tokens"),
        ("an image", f"{one.budget.image_min_tokens:,} to {one.budget.image_max_tokens:,} tokens"),
        ("a video", f"at most {one.budget.video_total_tokens:,} tokens, {one.budget.max_frames:,} frames"),
        *(("RoPE reset", f"base {before:,.0f} to {after:,.0f}") for before, after in resets),
    ]
    table = Table(title=one.name, title_justify="left", show_header=False)
    for row in rows:
        table.add_row(*row)
    return table


def _sizes(part: Any) -> str:
    return f"{part.num_hidden_layers} layers, width {part.hidden_size}, MLP {part.intermediate_size}"


def parameter_table(described: list[Described]) -> Table:
    """Parameters by part, in millions."""
    table = Table(title="parameters", title_justify="left")
    for column in ("model", "vision", "projector", "blocks", "embeddings", "total"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for one in described:
        counts = one.counts
        parts = (counts.vision, counts.projector, counts.blocks, counts.embeddings, counts.total)
        table.add_row(one.name, *(f"{part / 1e6:,.1f} M" for part in parts))
    return table


@dataclass(frozen=True, slots=True)
class Cost:
    """Language-model tokens, and FLOPs of a forward pass over all parts."""

    tokens: int
    flops: int


def cost_of_image(one: Described) -> Cost:
    """An image of `SHOWN`, by itself."""
    size = image_size(*SHOWN, one.budget)
    return _cost(one, [size])


def cost_of_minute(one: Described) -> Cost:
    """A minute of video of `SHOWN`, one frame in `SLOW_EVERY` slow; its timestamps are left out."""
    frames = min(int(60 * one.budget.fps), one.budget.max_frames)
    return _cost(one, plan_video([place % SLOW_EVERY == 0 for place in range(frames)], *SHOWN, one.budget).sizes)


def cost_of_text(one: Described, tokens: int = 1000) -> Cost:
    """So many tokens of text, the output layer at each of them."""
    return Cost(tokens, language_flops(one.config.text_config, [tokens], scored=tokens))


def _cost(one: Described, sizes: list[Size]) -> Cost:
    tokens = sum(num_tokens(size, one.budget.factor) for size in sizes)
    grids: list[Grid] = [(height // one.budget.patch, width // one.budget.patch) for height, width in sizes]
    return Cost(tokens, sample_flops(one.config, tokens, grids))


def cost_table(described: list[Described]) -> Table:
    """What an image, a minute of video and 1,000 tokens of text cost."""
    table = Table(title="cost", title_justify="left")
    table.add_column("model")
    for shown in ("image", "minute of video", "1,000 text tokens"):
        table.add_column(f"{shown}: tokens", justify="right")
        table.add_column("TFLOPs", justify="right")
    for one in described:
        costs = (cost_of_image(one), cost_of_minute(one), cost_of_text(one))
        table.add_row(one.name, *(cell for cost in costs for cell in (f"{cost.tokens:,}", _tera(cost.flops))))
    return table


def _tera(flops: int) -> str:
    return f"{flops / 1e12:,.0f}" if flops >= 1e14 else f"{flops / 1e12:.3g}"
