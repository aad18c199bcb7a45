from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from strict_yaml import RecipeError
from train import stages
from train.stages import Lineage, Stage, StageError, check_transition, load_stage

RECIPES = Path(stages.__file__).parent / "recipes"
Make = Callable[..., Stage]


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_in_the_tree_loads_under_its_own_name(path: Path) -> None:
    assert load_stage(path).stage == path.stem


def test_overrides_reach_nested_keys_and_keep_the_rest() -> None:
    path = RECIPES / "demo" / "sft.yaml"
    plain = load_stage(path)
    stage = load_stage(path, ["optimizer.lr=3e-4", "steps=7", "data.corpora=[a, b]", "init={tokenizer: t}"])
    assert stage.optimizer.lr == pytest.approx(3e-4)
    assert (stage.steps, stage.data.corpora, stage.init.tokenizer) == (7, ["a", "b"], "t")
    changed = {"optimizer", "steps", "data", "init"}
    assert stage.model_dump(exclude=changed) == plain.model_dump(exclude=changed)
    assert stage.optimizer.model_dump(exclude={"lr"}) == plain.optimizer.model_dump(exclude={"lr"})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.lr=1", "command line: optimiser.lr: unknown key; did you mean 'optimizer.lr'?"),
        ("stpes=1", "command line: stpes: unknown key; did you mean 'steps'?"),
        ("steps", "command line: 'steps' is not key=value"),
        ("steps=few", "command line: steps: Input should be a valid integer"),
    ],
)
def test_a_wrong_override_is_one_line_that_names_the_key(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_stage(RECIPES / "demo" / "sft.yaml", [override])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_wrong_key_in_a_recipe_names_file_and_nearest_key(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text((RECIPES / "demo" / "sft.yaml").read_text().replace("batch_tokens", "batch_token"))
    with pytest.raises(RecipeError, match=r"s\.yaml: batch_token: unknown key; did you mean 'batch_tokens'\?"):
        load_stage(path)


def test_init_is_either_a_checkpoint_or_fresh(make_stage: Make) -> None:
    for init in ({}, {"from": "train/a", "tokenizer": "t"}):
        with pytest.raises(ValidationError, match="either `from`"):
            make_stage(init=init)


def test_batches_are_whole_rows(make_stage: Make) -> None:
    assert make_stage(context=256, batch_tokens=1024).rows == 4
    with pytest.raises(ValidationError, match="not a multiple"):
        make_stage(context=256, batch_tokens=1000)


def _lineage(**changes: object) -> Lineage:
    raw = {"stage": "warmup", "step": 9, "preset": "tiny", "context": 256, "rope_base": 10_000}
    return Lineage.model_validate(raw | {"trained": ["language"], "weights": "0"} | changes)


@pytest.mark.parametrize(
    ("changes", "previous", "message"),
    [
        ({"trainable": ["projector"]}, None, "never been trained"),
        ({"trainable": ["projector"]}, _lineage(trained=["vision"]), "never trained it"),
        ({}, _lineage(preset="8b"), "preset 'tiny' cannot start from 'warmup'"),
        ({"rope_base": 80_000}, _lineage(), "raise context"),
        ({"rope_base": 5_000, "context": 512}, _lineage(), "falls from 10000 to 5000"),
    ],
)
def test_transitions_that_do_not_follow_are_refused(
    make_stage: Make, changes: dict[str, object], previous: Lineage | None, message: str
) -> None:
    with pytest.raises(StageError, match=message):
        check_transition(make_stage(**changes), previous)


def test_the_ladder_of_the_report_passes(make_stage: Make) -> None:
    """Projector only, then all, then a longer context with the base reset from 1e6 to 8e6 (report, 3.1)."""
    check_transition(make_stage(), None)
    check_transition(make_stage(trainable=["projector"]), _lineage())
    longer = make_stage(context=512, rope_base=80_000)
    check_transition(longer, _lineage(stage="stage2", trained=["vision", "projector", "language"]))
