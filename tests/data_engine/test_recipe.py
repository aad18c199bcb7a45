"""Recipes: typed, strict, and helpful about what is wrong."""

from pathlib import Path

import pytest

from data_engine import curate
from data_engine.recipe import load_recipe
from strict_yaml import RecipeError

GOOD = """
corpus: stamps
root: corpora
sources:
  - {format: captions, path: stamps, modality: image, task: caption, licence: GPL-2.0}
operators:
  - resolution: {min_side: 64}
dedup:
  - exact: {}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_for_one_corpus_needs_no_list(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, GOOD))
    curate.check(recipe)
    assert [corpus.corpus for corpus in recipe.corpora] == ["stamps"]
    assert recipe.root == str((tmp_path / "corpora").resolve())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("sources:", "sorces:"), r"recipe\.yaml: sorces: unknown key; did you mean 'sources'\?"),
        (("task: caption", "taks: caption"), r"taks: unknown key; did you mean 'task'\?"),
        (("modality: image", "modality: picture"), r"corpora\.0\.sources\.0\.modality: .*'video', 'image' or 'text'"),
        (
            ("resolution", "resolutoin"),
            r"corpora\.stamps\.operators: unknown 'resolutoin'; did you mean 'resolution'\?",
        ),
        (("min_side", "minside"), r"operators\.resolution: unknown 'minside'; did you mean 'min_side'\?"),
        (("min_side: 64", "min_side: tall"), r"operators\.resolution: .*integer"),
        (("exact", "exakt"), r"dedup: unknown 'exakt'; did you mean 'exact'\?"),
        (("format: captions", "format: caption"), r"format: unknown 'caption'; did you mean 'captions'\?"),
        (("corpus: stamps", "corpus: [stamps"), r"not YAML"),
        (
            ("root: corpora", "mixture: {shares: {video: 0.5, image: 0.4, text: 0.2}}"),
            r"must not be negative, and sum to 1",
        ),
        (("root: corpora", "gates: [{measure: kept}]"), r"give min, max or both"),
        (
            ("root: corpora", "gates: [{measure: kepd, min: 1}]"),
            r"gates\.0\.measure: unknown 'kepd'; did you mean 'kept'",
        ),
        (("root: corpora", "gates: [{measure: kept, min: 1, corpus: stamp}]"), r"did you mean 'stamps'"),
    ],
)
def test_faults_name_the_field_and_the_fix(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = written(tmp_path, GOOD.replace(*change))
    with pytest.raises(RecipeError, match=message):
        curate.check(load_recipe(path))


def test_a_missing_recipe_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load_recipe(tmp_path / "nowhere.yaml")


def test_the_recipes_we_ship_are_valid() -> None:
    shipped = sorted((Path(curate.__file__).parent / "recipes").glob("*.yaml"))
    assert shipped
    for path in shipped:
        curate.check(load_recipe(path))
