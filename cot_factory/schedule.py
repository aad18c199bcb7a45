"""Step 5, repeats: how often a sample comes in the next round, by its score and by what training said of it.

The report repeats scores 4 and 5 several times and gives no numbers (arXiv 2509.01563, 4.3.1); the formula is ours.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from strict_yaml import RecipeError

Floats = npt.NDArray[np.float64]


def repeats(
    ids: Sequence[str],
    scores: npt.NDArray[np.int64],
    base: Mapping[int, int],
    rounds: Sequence[Mapping[str, tuple[float | None, float | None]]],
    *,
    decay: float,
    cap: int,
    seed: int,
) -> npt.NDArray[np.int64]:
    """The repeats of each sample after so many rounds of training: base[score] x decay^rounds x 2 gain.

    `rounds`: per round id -> (loss, pass rate). gain is 1 - pass rate; without one, the rank of the loss among all
    losses of the round (0 lowest, 1 highest); 1/2 of a sample that no round tells of. The last round that tells of
    a sample counts. The fraction is rounded up for as large a share of the samples, by a hash of (seed, round, id), so
    that the same input gives the same repeats on any machine. `cap` at most.
    """
    gains = gain(ids, rounds)
    wanted = np.array([base[int(score)] for score in scores], np.float64) * decay ** len(rounds) * 2 * gains
    whole = np.floor(wanted)
    drawn = np.array([_uniform(seed, len(rounds), name) for name in ids])
    found: npt.NDArray[np.int64] = np.minimum(whole + (drawn < wanted - whole), cap).astype(np.int64)
    return found


def gain(ids: Sequence[str], rounds: Sequence[Mapping[str, tuple[float | None, float | None]]]) -> Floats:
    """What is still to be learnt of each sample, from 0 to 1."""
    gains = np.full(len(ids), 0.5)
    place = {name: number for number, name in enumerate(ids)}
    for told in rounds:
        losses = np.sort([loss for loss, _ in told.values() if loss is not None])
        for name, (loss, pass_rate) in told.items():
            if name in place and pass_rate is not None:
                gains[place[name]] = 1 - pass_rate
            elif name in place and loss is not None:
                below, upto = np.searchsorted(losses, loss), np.searchsorted(losses, loss, side="right")
                gains[place[name]] = (below + upto - 1) / 2 / (len(losses) - 1) if len(losses) > 1 else 0.5
    return gains


def _uniform(seed: int, number: int, name: str) -> float:
    return xxhash.xxh3_64_intdigest(f"{seed}/{number}/{name}".encode()) / 2**64


def read_feedback(path: Path) -> dict[str, tuple[float | None, float | None]]:
    """id -> (loss, pass rate) of one round of training. Raises RecipeError naming the file and the fix."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise RecipeError(f"score.feedback: {path}: no Parquet table of `id`, `loss`, `pass_rate`: {error}") from error
    names = set(table.column_names)
    if "id" not in names or not names & {"loss", "pass_rate"}:
        raise RecipeError(f"score.feedback: {path}: has {sorted(names)}; it needs `id`, and `loss` or `pass_rate`")
    found = {row["id"]: (row.get("loss"), row.get("pass_rate")) for row in table.to_pylist()}
    if bad := [name for name, (_, rate) in found.items() if rate is not None and not 0 <= rate <= 1]:
        raise RecipeError(f"score.feedback: {path}: pass_rate of {bad[0]} is not between 0 and 1")
    return found
