"""The feed on the committed trace (20,000 samples, 24/50/26 by tokens; benchmarks/mix_trace.parquet).

    python benchmarks/feed.py [packing] [balance] [steps] [--device cpu]

packing   rows filled at 8K, 32K and 128K with tokens alone binding and with all limits; beside it first-fit decreasing
          over the same windows of 4,096, all at once; CPU-seconds for 4,096 samples
balance   4,096 samples over 8 to 256 ranks by FLOPs of preset 8b: longest rank over the mean, the floor (the largest
          sample over the mean), both over the best there can be, dealing in turn; and vision on its own over all ranks
steps     forward and backward of packed rows, really run: the cost model fitted to three rows in four and judged on the
          rest; then 8 virtual ranks of equally many rows each, dealt in turn, by tokens, by FLOPs, by the fitted model:
          the measured longest rank over the mean. Layers of preset 8b on a GPU (bf16, 8K), preset tiny on a CPU
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from measuring import save

from model.configuration import KeyeConfig
from model.modeling import KeyeForConditionalGeneration, config_of
from train.feed import cost
from train.feed.balance import assign, balance, balance_vision
from train.feed.packing import Limits, pack, sizes_of

TRACE = Path(__file__).parent / "mix_trace.parquet"
PLANNED = 4096
RANKS = (8, 16, 32, 64, 128, 256)
VIRTUAL, ROWS_EACH = 8, 8
ROUNDS = {"cpu": 2, "cuda": 2}
Columns = dict[str, np.ndarray]


def main() -> None:
    parts: dict[str, Callable[[Columns, str], Any]] = {"packing": packing, "balance": balancing, "steps": steps}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", choices=[*parts, []], help="all without")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    trace = {name: column.to_numpy() for name, column in zip(*_columns(TRACE), strict=True)}
    figures = {name: parts[name](trace, options.device) for name in options.part or parts}
    save("feed" if options.device == "cpu" else f"feed_{options.device}", figures)


def _columns(path: Path) -> tuple[list[str], list[Any]]:
    table = pq.read_table(path).drop_columns("modality")
    return table.column_names, table.columns


def packing(trace: Columns, _: str) -> list[dict[str, float]]:
    sizes = sizes_of(trace["tokens"], trace["visual_tokens"], trace["pictures"])
    pack(sizes[:100], Limits(8192))  # compiled before anything is timed
    print(
        f"{'context':>9}{'limits':>10}{'rows':>7}{'filled':>9}{'first-fit decr.':>17}{'too long':>10}{'ms / 4,096':>12}"
    )
    figures = []
    for context in (8_192, 32_768, 131_072):
        both = Limits(context, pictures=context // 64, patches=2 * context)
        for name, limits in (("tokens", Limits(context)), ("all", both)):
            began = time.process_time()
            rows = pack(sizes, limits)
            seconds = time.process_time() - began
            full = [row for row in rows if row.positions]
            filled = sum(row.tokens for row in full) / (len(full) * context)
            other = first_fit_decreasing(sizes, limits)
            row = {"context": context, "filled": filled, "first_fit": other, "ms": 1e3 * seconds * PLANNED / len(sizes)}
            too_long = sum(len(one.too_long) for one in rows)
            print(f"{context:>9,}{name:>10}{len(full):>7}{filled:>9.4f}{other:>17.4f}{too_long:>10}{row['ms']:>12.1f}")
            figures.append({**row, "limits": name, "too_long": too_long})
    return figures


def first_fit_decreasing(sizes: np.ndarray, limits: Limits) -> float:
    """How full rows are where each window of 4,096 is packed by itself, the longest first into the first with room."""
    used = tokens = 0
    for first in range(0, len(sizes), PLANNED):
        window = sizes[first : first + PLANNED]
        window = window[limits.fit(window)]
        room = np.empty((0, 3), np.int64)
        for size in window[np.argsort(-window[:, 0], kind="stable")]:
            fits = (room >= size).all(axis=1)
            if not fits.any():
                room = np.vstack([room, limits.array])
                fits = np.append(fits, True)
            room[np.argmax(fits)] -= size
        used, tokens = used + len(room) * limits.tokens, tokens + int(window[:, 0].sum())
    return tokens / used


def terms_of(config: KeyeConfig, trace: Columns) -> np.ndarray:
    return cost.terms(config, trace["tokens"], trace["visual_tokens"], trace["squared_patches"])


def balancing(trace: Columns, _: str) -> list[dict[str, float]]:
    found = terms_of(config_of("8b"), trace)
    assign(np.ones(8), 2)
    heads = ("ranks", "max/mean", "floor", "over best", "in turn", "ms", "vision", "its floor", "tokens sent")
    print("\n" + "".join(f"{head:>12}" for head in heads))
    figures = []
    for ranks in RANKS:
        rows = [_balanced(found[first : first + PLANNED], trace, first, ranks)
                for first in range(0, len(found) - PLANNED + 1, PLANNED)]  # fmt: skip
        row = {name: float(np.mean([one[name] for one in rows])) for name in rows[0]}
        row |= {
            "ranks": ranks,
            "over_best": max(one["over_best"] for one in rows),
            "ms": max(one["ms"] for one in rows),
        }
        print(
            f"{ranks:>12}{row['max']:>12.4f}{row['floor']:>12.3f}{row['over_best']:>12.5f}{row['in_turn']:>12.3f}"
            f"{row['ms']:>12.2f}{row['vision']:>12.4f}{row['vision_floor']:>12.3f}{row['sent']:>12.1%}"
        )
        figures.append(row)
    return figures


def _balanced(found: np.ndarray, trace: Columns, first: int, ranks: int) -> dict[str, float]:
    """All of a sample to one rank; and with the pictures' work apart, each picture to any rank."""
    costs = found.sum(axis=1)
    began = time.perf_counter()
    chosen = assign(costs, ranks)
    seconds = time.perf_counter() - began
    told = balance(costs, chosen, ranks)
    pictures = trace["pictures"][first : first + len(costs)]
    owner = np.repeat(np.arange(len(costs)), pictures)
    seen = trace["visual_tokens"][first : first + len(costs)][owner] / pictures[owner]
    each = found[:, :2].sum(axis=1)[owner] / pictures[owner]
    plan = balance_vision(each, np.round(seen).astype(np.int64), chosen[owner], ranks)
    vision = balance(each, plan.ranks, ranks)
    return {
        "max": told.max_over_mean,
        "floor": told.floor,
        "over_best": told.over_best,
        "in_turn": balance(costs, np.arange(len(costs)) % ranks, ranks).max_over_mean,
        "ms": 1e3 * seconds,
        "vision": vision.max_over_mean,
        "vision_floor": vision.floor,
        "sent": float(plan.sent.sum() / seen.sum()),
    }


def steps(trace: Columns, device: str) -> dict[str, Any]:
    torch.manual_seed(0)
    small = device == "cpu"
    config = config_of("tiny", image_token_id=5, video_token_id=6) if small else layers_of_8b()
    context = 1_024 if small else 8_192
    fits = np.flatnonzero(trace["tokens"] <= context)
    trace = {name: column[fits] for name, column in trace.items()}
    sizes = sizes_of(trace["tokens"], trace["visual_tokens"], trace["pictures"])
    rows = [row.positions for row in pack(sizes, Limits(context)) if row.tokens > 0.95 * context]
    rows = [list(row) for row in rows[: VIRTUAL * ROWS_EACH]]
    torch.set_default_dtype(torch.float32 if small else torch.bfloat16)
    model = KeyeForConditionalGeneration(config).to(device).train()
    made = [tensors(config, trace, row, context, device) for row in rows]
    found = terms_of(config, trace)
    summed = np.array([found[row].sum(axis=0) for row in rows])
    seconds = cost.timed(
        [lambda one=one: forward_backward(model, one) for one in made], synchroniser(device), ROUNDS[device]
    )
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    fitted = cost.fit(summed, 1, seconds, name)
    print(f"\n{name}: {len(rows)} rows of {context}, {seconds.min() * 1e3:.1f} to {seconds.max() * 1e3:.1f} ms")
    print(f"cost model: R2 {fitted.r2:.3f} on rows kept from the fit, error {fitted.median_error:.1%} (95th percentile "
          f"{fitted.p95_error:.1%}); FLOPs alone: R2 {_r2(summed.sum(axis=1), seconds):.3f}")  # fmt: skip
    print("seconds a PFLOP: " + ", ".join(
        f"{term} {1e15 * value:.3f}" for term, value in zip(cost.TERMS, fitted.seconds_per_flop, strict=True)
    ) + f"; a row {1e3 * fitted.per_row:.2f} ms")  # fmt: skip
    rules = {
        "in turn": None,
        "by tokens": np.array([float(trace["tokens"][row].sum()) for row in rows]),
        "by FLOPs": summed.sum(axis=1),
        "by the cost model": fitted.seconds(summed) + fitted.per_row,
    }
    print(f"{VIRTUAL} ranks of {ROWS_EACH} rows, dealt   measured max/mean   by single rows' seconds   floor")
    work = [lambda one=one: forward_backward(model, one) for one in made]
    table = [dealt(rule, costs, seconds, work, device) for rule, costs in rules.items()]
    return {
        "device": name,
        "fit": asdict(fitted),
        "balance": table,
        "terms": summed.tolist(),
        "seconds": seconds.tolist(),
    }


def dealt(
    rule: str,
    costs: np.ndarray | None,
    seconds: np.ndarray,
    work: list[Callable[[], None]],
    device: str,
) -> dict[str, float | str]:
    """Rows dealt by a rule, then each rank's rows really run, one after the other: how level the ranks' times are."""
    ranks = np.arange(len(work)) % VIRTUAL if costs is None else assign(costs, VIRTUAL, equal_counts=True)

    def of_rank(rank: int) -> Callable[[], None]:
        def run() -> None:
            for place in np.flatnonzero(ranks == rank):
                work[place]()

        return run

    times = cost.timed(map(of_rank, range(VIRTUAL)), synchroniser(device), ROUNDS[device])
    measured, told = times.max() / times.mean(), balance(seconds, ranks, VIRTUAL)
    print(f"{rule:<26}{measured:>18.4f}{told.max_over_mean:>26.4f}{told.floor:>8.3f}")
    return {"rule": rule, "measured": float(measured), "by_rows": told.max_over_mean, "floor": told.floor}


def layers_of_8b() -> KeyeConfig:
    """Three vision layers and four decoder layers of the 8B shape, about as 27 to 36."""
    config = config_of("8b")
    config.vision_config.num_hidden_layers, config.text_config.num_hidden_layers = 3, 4
    return config


def tensors(config: KeyeConfig, trace: Columns, row: list[int], context: int, device: str) -> dict[str, torch.Tensor]:
    """A packed row of samples of these sizes: random words, and pictures of one size in a sample."""
    random = np.random.default_rng(row[0])
    shape = {"input_ids": 0, "labels": -100, "segment_ids": 0}
    arrays = {name: np.full((1, context), value) for name, value in shape.items()}
    places, grids, start = np.zeros((3, 1, context), np.int64), [], 0
    for segment, sample in enumerate(row, start=1):
        tokens, seen, pictures = (int(trace[name][sample]) for name in ("tokens", "visual_tokens", "pictures"))
        span = slice(start, start + tokens)
        ids = random.integers(100, 8_000, tokens)
        ids[:seen] = config.image_token_id
        arrays["input_ids"][0, span], arrays["segment_ids"][0, span] = ids, segment
        arrays["labels"][0, start + seen : span.stop] = ids[seen:]
        places[:, 0, span] = np.arange(tokens)
        grids += (
            [(1, 2, 2 * count) for count in map(len, np.array_split(np.arange(seen), pictures))] if pictures else []
        )
        start = span.stop
    made = {name: torch.from_numpy(array).to(device) for name, array in {**arrays, "position_ids": places}.items()}
    if grids:
        patches = sum(rows * columns for _, rows, columns in grids)
        made["pixel_values"] = torch.rand(patches, 3, 14, 14, device=device)
        made["grid_thw"] = torch.tensor(grids, device=device)
    return made


def forward_backward(model: KeyeForConditionalGeneration, made: dict[str, torch.Tensor]) -> None:
    model(**made).loss.backward()
    model.zero_grad(set_to_none=True)


def synchroniser(device: str) -> Callable[[], None]:
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def _r2(told: np.ndarray, true: np.ndarray) -> float:
    """Of the best line through the origin."""
    told = told * (told @ true) / (told @ told)
    return 1 - float(((told - true) ** 2).sum() / ((true - true.mean()) ** 2).sum())


if __name__ == "__main__":
    main()
