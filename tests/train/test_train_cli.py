from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from train import stages
from train.cli import app
from train.feed.cost import CostModel
from train.record import read_rows

RECIPES = Path(stages.__file__).parent / "recipes" / "demo"
SMALL = ["context=256", "batch_tokens=512", "steps=1", "heldout.samples=4", "data.workers=0"]


@pytest.fixture
def keyeforge() -> typer.Typer:
    """The command as keyeforge.py joins it."""
    joined = typer.Typer()
    joined.add_typer(app, name="train")
    joined.add_typer(typer.Typer(), name="other")
    return joined


def test_options_and_overrides_mix_in_any_order(keyeforge: typer.Typer, run_folder: Path) -> None:
    arguments = ["train", "warmup", str(RECIPES / "warmup.yaml"), *SMALL[:2], "--data", str(run_folder), *SMALL[2:]]
    result = CliRunner().invoke(keyeforge, arguments)
    assert result.exit_code == 0, result.output
    assert len(read_rows(run_folder / "train" / "warmup" / "metrics.jsonl")) == 1
    assert "heldout_loss" in result.output


def test_what_samples_cost_is_fitted_here_and_balanced_by(keyeforge: typer.Typer, run_folder: Path) -> None:
    common = [str(RECIPES / "warmup.yaml"), *SMALL, "--data", str(run_folder)]
    result = CliRunner().invoke(keyeforge, ["train", "cost", *common])
    assert result.exit_code == 0, result.output
    assert "on rows kept from the fit" in result.output
    model = CostModel.load(run_folder / "train" / "warmup.cost.json")
    assert model.steps == 48
    assert model.per_row > 0 or max(model.seconds_per_flop) > 0
    result = CliRunner().invoke(keyeforge, ["train", "warmup", *common, "data.cost=train/warmup.cost.json"])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(keyeforge, ["train", "warmup", *common, "--fresh", "data.cost=none.json"])
    assert result.exit_code == 2
    assert "data.cost" in result.output
    assert "make one with `keyeforge train cost`" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stage1", "{recipes}/sft.yaml"], "is a recipe for 'sft', not 'stage1'"),
        (["sft", "{recipes}/none.yaml"], "none.yaml: cannot be read: No such file"),
        (["sft", "{recipes}/sft.yaml", "seeds=3"], "command line: seeds: unknown key; did you mean 'seed'?"),
        (["sft", "{recipes}/sft.yaml"], "train/stage2: neither a model folder nor a trained stage"),
        (["warmup", "{recipes}/warmup.yaml", "data.manifest=none.json"], "none.json: no manifest"),
        (["warmup", "{recipes}/warmup.yaml", "data.corpora=[wrds]"], "no corpus 'wrds' in split 'train'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(
    keyeforge: typer.Typer, run_folder: Path, arguments: list[str], message: str
) -> None:
    filled = [argument.replace("{recipes}", str(RECIPES)) for argument in arguments]
    result = CliRunner().invoke(keyeforge, ["train", *filled, *SMALL, "--data", str(run_folder)])
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_help_teaches_the_first_commands(keyeforge: typer.Typer) -> None:
    result = CliRunner().invoke(keyeforge, ["train", "--help"])
    assert result.exit_code == 0
    for word in ("keyeforge train warmup", "torchrun", "--fresh", "--data", "key=value"):
        assert word in result.output
