from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from train import stages
from train.cli import app
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
