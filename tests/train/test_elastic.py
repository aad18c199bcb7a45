"""The joint checkpoint of trainer and stream: killed anywhere, resumed on any number of processes."""

import shutil
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from deepspeed.checkpoint import ds_to_universal

from data_engine.stream import Stream, follow, ledger
from tests.train.forked import Forks, Run
from train import record
from train.checkpoint import checkpoints, read_state
from train.engine import Processes
from train.feed.batches import Cursor
from train.reshard import span
from train.run import check_rows, open_stream
from train.stages import Stage, StageError, lineage_of, load_stage

Make = Callable[..., Stage]
SAVED = 2  # the step of the checkpoint that `begun` leaves


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    server = Forks()
    yield server
    server.close()


@pytest.fixture(scope="session")
def new_run(shared_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Stage], Run]:
    """A run of a stage in a folder of its own, over shared data."""

    def make(stage: Stage) -> Run:
        folder = tmp_path_factory.mktemp("elastic")
        for name in ("shards", "tokenizer"):
            (folder / name).symlink_to(shared_run / name)
        recipe = folder / "stage.yaml"
        recipe.write_text(stage.model_dump_json(by_alias=True))  # JSON is YAML
        return Run(str(recipe), str(folder))

    return make


@pytest.fixture(scope="session")
def elastic(make_stage: Make) -> Make:
    """Rows for up to four processes, with pictures in some; ten steps go into the second epoch."""

    def make(**changes: object) -> Stage:
        common: dict[str, object] = {
            "context": 128,
            "batch_tokens": 512,
            "steps": 10,
            "data": {
                "corpora": ["clips", "words"],
                "mixture": {"video": 0.5, "text": 0.5},
                "workers": 0,
                "ledger": True,
                "max_failures": 2,
            },
            "packing": {"look_ahead": 16},
            "heldout": {"samples": 1},
        }
        return make_stage(**(common | changes))

    return make


def changed(run: Run, **fields: object) -> Run:
    return Run(**{"recipe": run.recipe, "data": run.data} | fields)  # type: ignore[arg-type]


def folder_of(run: Run) -> Path:
    return Path(run.data) / "train" / "stage2"


def losses(run: Run) -> list[float]:
    return [row["loss"] for row in record.read_rows(folder_of(run) / "metrics.jsonl")]


def weights(run: Run) -> str:
    return lineage_of(checkpoints(folder_of(run))[-1] / "model").weights


def consumed(run: Run) -> list[tuple[int, ...]]:
    """What all ranks trained on: (epoch, place, number, failed), in order of place."""
    return sorted(map(tuple, ledger.read(folder_of(run) / "ledger").tolist()))


def stream_of(run: Run) -> Stream:
    return open_stream(load_stage(Path(run.recipe)), Path(run.data), "train")


def check_exactly_once(run: Run) -> None:
    """The first epoch is whole; of the second there is what the last cursor says; nothing twice, nothing wrong."""
    state = read_state(checkpoints(folder_of(run))[-1])
    stream = stream_of(run)
    first, second = follow.audit(stream, folder_of(run) / "ledger")
    assert first.exactly_once
    assert (second.twice, second.wrong) == (0, 0)
    places = np.arange(len(stream))
    done = Cursor(**state["cursor"]).consumed(np.ones(len(places), int), places)
    assert [place for epoch, place, *_ in consumed(run) if epoch == 1] == np.flatnonzero(done).tolist()


def tear(run: Run) -> None:
    """What a machine that lost power leaves at the ends of the files that are appended to."""
    for path in (*folder_of(run).glob("*.jsonl"), *folder_of(run).glob("ledger/*")):
        with path.open("ab") as file:
            file.write(b'{"st')


def spoil(run: Run, places: tuple[int, ...]) -> None:
    """Gives the run shards of its own, in which the samples at some places of the order cannot be read."""
    shards = Path(run.data) / "shards"
    source = shards.resolve()
    shards.unlink()
    shutil.copytree(source, shards)
    stream = stream_of(run)
    order, index = stream.schedule.order(), stream.index
    for number in (int(order[place]) for place in places):
        path = shards / index.shards[index.shard[number]]
        content = bytearray(path.read_bytes())
        content[int(index.offset[number]) + 700] ^= 1
        path.write_bytes(content)


@pytest.fixture(scope="session")
def whole(forks: Forks, new_run: Callable[[Stage], Run], elastic: Make) -> Run:
    """One process, never interrupted."""
    run = new_run(elastic())
    assert forks.run(run) == [0]
    check_exactly_once(run)
    return run


def test_killed_after_every_step_the_run_is_the_same_to_the_last_bit(
    forks: Forks, new_run: Callable[[Stage], Run], elastic: Make
) -> None:
    """Each life of the run ends a step later than the one before; some samples cannot be read."""
    stage = elastic(steps=8, checkpoint={"every": 3})
    alone, killed = new_run(stage), new_run(stage)
    for run in (alone, killed):
        spoil(run, (5, 30, 50))
    assert forks.run(alone) == [0]
    for step in range(1, 9):
        assert forks.run(changed(killed, after_row=step)) == [-9]
        assert len(losses(killed)) == step
        tear(killed)
    assert forks.run(killed) == [0]
    assert losses(killed) == losses(alone)
    assert weights(killed) == weights(alone)
    assert consumed(killed) == consumed(alone)
    assert sum(failed for *_, failed in consumed(killed)) >= 3
    faults = [record.read_rows(folder_of(run) / "faults-0.jsonl") for run in (alone, killed)]
    told = [[(row["epoch"], row["position"], row["id"]) for row in rows] for rows in faults]
    assert told[0] == told[1]
    assert len(told[0]) == sum(failed for *_, failed in consumed(alone))


def test_killed_while_a_checkpoint_is_written_or_deleted_the_last_whole_one_stays(
    forks: Forks, new_run: Callable[[Stage], Run], elastic: Make
) -> None:
    """Killed at touches of the disk drawn from all those of three checkpoints, of which two go again."""
    stage = elastic(steps=3, checkpoint={"every": 1})
    alone = new_run(stage)
    count = Path(alone.data) / "touches"
    assert forks.run(changed(alone, touches=str(count))) == [0]
    touches = int(count.read_text())
    assert touches > 100
    newest = 0
    for touch in sorted(np.random.default_rng(0).choice(touches - 1, 8, replace=False).tolist()):
        killed = new_run(stage)
        assert forks.run(changed(killed, at_touch=touch + 1)) == [-9]
        steps = [read_state(path)["step"] for path in checkpoints(folder_of(killed))]
        assert steps == [lineage_of(path / "model").step for path in checkpoints(folder_of(killed))]
        assert max(steps, default=0) >= newest  # killed later, no less is kept
        newest = max(steps, default=0)
        assert forks.run(killed) == [0]
        assert losses(killed) == losses(alone)
        assert weights(killed) == weights(alone)
        assert consumed(killed) == consumed(alone)
        assert [path.name for path in (folder_of(killed) / "checkpoints").iterdir()] == ["step-0000003"]


@pytest.mark.parametrize("world_size", [1, 2])
def test_killed_from_outside_in_the_midst_of_writing(
    forks: Forks, new_run: Callable[[Stage], Run], elastic: Make, whole: Run, world_size: int
) -> None:
    run = new_run(elastic())
    assert forks.run(changed(run, world_size=world_size, at_partial=True)) == [-9] * world_size
    assert forks.run(run) == [0]
    assert losses(run) == (losses(whole) if world_size == 1 else pytest.approx(losses(whole), rel=1e-4))
    assert consumed(run) == consumed(whole)


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_the_samples_are_the_same_on_two_one_two_and_four_processes(
    forks: Forks, new_run: Callable[[Stage], Run], elastic: Make, whole: Run, zero: int
) -> None:
    """One run, killed thrice, of 2, 1, 2 and 4 processes in turn, over the end of an epoch."""
    run = new_run(elastic(zero=zero))
    for world_size, step in ((2, 3), (1, 5), (2, 9)):
        assert forks.run(changed(run, world_size=world_size, after_row=step)) == [-9] * world_size
        tear(run)
    assert forks.run(changed(run, world_size=4)) == [0] * 4
    assert consumed(run) == consumed(whole)
    check_exactly_once(run)
    assert losses(run) == pytest.approx(losses(whole), rel=1e-4)
    rows, expected = (record.read_rows(folder_of(one) / "metrics.jsonl") for one in (run, whole))
    for name in ("samples", "tokens", "targets", "epoch"):
        assert [row[name] for row in rows] == [row[name] for row in expected]


@pytest.fixture(scope="session")
def begun(forks: Forks, new_run: Callable[[Stage], Run], elastic: Make) -> Callable[[int, str, int], Run]:
    """A run of some processes, killed after the checkpoint of step 2."""
    made: dict[tuple[int, str, int], Run] = {}

    def make(zero: int, precision: str, world_size: int) -> Run:
        key = zero, precision, world_size
        if key not in made:
            rows = {
                "context": 64,
                "batch_tokens": 12 * 64,
            }  # of 3 processes too: no number of parameters is a multiple of that
            stage = elastic(zero=zero, precision=precision, trainable=["projector", "language"], **rows)
            made[key] = new_run(stage)
            killed = changed(made[key], world_size=world_size, after_row=SAVED + 1)
            assert forks.run(killed) == [-9] * world_size
        return made[key]

    return make


def universal(checkpoint: Path, out: Path) -> dict[str, torch.Tensor]:
    """Each parameter's whole master weights and moments, as DeepSpeed's own converter puts them together."""
    how = {"num_extract_workers": 1, "num_merge_workers": 1, "keep_temp_folder": False, "strict": True}
    folders = {"input_folder": str(checkpoint / "optimizer" / "state"), "output_folder": str(out)}
    ds_to_universal.main(Namespace(**folders, **how, inject_missing_state=True))
    found = {}
    for path in (out / "zero").glob("*/*.pt"):
        value = torch.load(path, weights_only=False)
        found[f"{path.parent.name}/{path.stem}"] = torch.as_tensor(value["param"] if isinstance(value, dict) else value)
    return found


def steps_and_settings(checkpoint: Path, zero: int) -> list[tuple[float, float]]:
    """Steps done and weight decay of each group of the optimiser, in each part."""
    name = "optimizer_state_dict" if zero == 3 else "base_optimizer_state"
    parts = [
        torch.load(path, weights_only=False)["optimizer_state_dict"][name]
        for path in (checkpoint / "optimizer" / "state").glob("*optim_states.pt")
    ]
    return [
        (float(part["state"][group["params"][0]]["step"]), group["weight_decay"])
        for part in parts
        for group in part["param_groups"]
    ]


CUTS = [
    *[(1, "fp32", *cut) for cut in ((1, 2), (2, 1), (2, 3))],
    *[(2, "fp32", *cut) for cut in ((2, 1), (2, 4))],
    *[(3, "fp32", *cut) for cut in ((1, 2), (2, 1), (2, 3))],
    *[(1, "bf16", 1, 2), (3, "bf16", 2, 4)],
]


@pytest.mark.parametrize(("zero", "precision", "saved", "loaded"), CUTS)
def test_what_is_cut_anew_is_what_was_saved(
    forks: Forks,
    begun: Callable[[int, str, int], Run],
    tmp_path: Path,
    zero: int,
    precision: str,
    saved: int,
    loaded: int,
) -> None:
    """Loaded and saved by other processes, every number is the same to the last bit, and so are the model's weights."""
    run = begun(zero, precision, saved)
    before, after = checkpoints(folder_of(run))[-1], tmp_path / "step-0000002"
    assert forks.run(changed(run, world_size=loaded, again=str(after))) == [0] * loaded
    ours, theirs = universal(after, tmp_path / "ours"), universal(before, tmp_path / "theirs")
    assert ours.keys() == theirs.keys()
    assert {name.rpartition("/")[2] for name in ours} >= {"fp32", "exp_avg", "exp_avg_sq"}
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(bool(value.any()) for name, value in theirs.items() if name.endswith("exp_avg"))
    assert steps_and_settings(before, zero) == [(SAVED, 0.05), (SAVED, 0.0)] * saved
    assert steps_and_settings(after, zero) == [(SAVED, 0.05), (SAVED, 0.0)] * loaded
    assert lineage_of(after / "model") == lineage_of(before / "model")
    assert read_state(after)["frozen"].keys() == {"vision"}


def test_a_span_is_that_of_the_pieces_joined() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        lengths = random.integers(0, 5, random.integers(1, 5)).tolist()
        pieces = [torch.arange(length) + 10 * number + 1 for number, length in enumerate(lengths)]
        start, numel = random.integers(0, 20, 2).tolist()
        joined = torch.cat([*pieces, torch.zeros(40, dtype=torch.int64)])
        assert torch.equal(span(pieces, start, numel), joined[start : start + numel])


def test_rows_that_do_not_spread_over_the_processes_are_refused_first(elastic: Make) -> None:
    stage = elastic()
    check_rows(stage, Processes(0, 4, torch.device("cpu")))
    message = "a batch of 4 rows does not spread over 3 processes; start 2 of them, or set batch_tokens to a multiple"
    with pytest.raises(StageError, match=f"^stage2: {message} of 384$"):
        check_rows(stage, Processes(2, 3, torch.device("cpu")))
