"""Whether all that a recipe reads is there, asked before the first step: a wrong path costs a second, not an hour."""

from pathlib import Path

from data_engine import catalog, ingest
from data_engine.recipe import Corpus, Recipe, Source
from data_engine.sources.common import inside
from strict_yaml import RecipeError, nearest


def require(recipe: Recipe) -> None:
    """Raises RecipeError for a source, a benchmark or an earlier release that is not there, naming the field."""
    for corpus in recipe.corpora:
        where, root = f"corpora.{corpus.corpus}", Path(recipe.root)
        for number, source in enumerate(corpus.sources):
            _there(f"{where}.sources.{number}", root, source)
        for spec in corpus.dedup:
            for name, fields in spec.items():
                for number, benchmark in enumerate(fields.get("benchmarks", [])):
                    source = Source.model_validate(benchmark)
                    nearest(f"{where}.dedup.{name}.benchmarks.{number}.format", source.format, ingest.FORMATS)
                    _there(f"{where}.dedup.{name}.benchmarks.{number}", root, source)
        _released(where, root, corpus)


def _there(where: str, root: Path, source: Source) -> None:
    try:
        path = inside(root, source.path)
    except ValueError as error:
        raise RecipeError(f"{where}.path: {error}") from error
    if not path.exists():
        raise RecipeError(f"{where}.path: {path}: no such file or folder; correct the path or fetch the corpus")


def _released(where: str, root: Path, corpus: Corpus) -> None:
    for number, release in enumerate(corpus.against):
        try:
            steps = catalog.steps(Path(root, release))
        except catalog.CatalogError as error:
            raise RecipeError(f"{where}.against.{number}: {error}") from error
        if f"dedup.{corpus.corpus}" not in steps:
            raise RecipeError(f"{where}.against.{number}: {release} is a run without a corpus {corpus.corpus!r}")
