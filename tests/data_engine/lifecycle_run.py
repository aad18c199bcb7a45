"""A small run on real stamps, questions and problems by the local runner: what the life of a dataset is tested on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from data_engine.curate import Outcome, curate
from data_engine.recipe import load_recipe
from tests import small_corpora as small

NAMES = ("stamps", "easy_vqa", "champ")
Recipe = dict[str, Any]


def make_corpora(corpora: Any, target: Path) -> Path:
    """A little of three corpora, copied."""
    for folder in ("easy_vqa/images", "champ"):
        (target / folder).mkdir(parents=True)
    small._some(corpora / "stamps", target / "stamps", 24)
    _lines(corpora / "easy_vqa/train.jsonl", target / "easy_vqa/train.jsonl", 60)
    _lines(corpora / "champ/champ.jsonl", target / "champ/champ.jsonl", 30)
    for number in range(12):
        shutil.copy(corpora / f"easy_vqa/images/{number}.png", target / "easy_vqa/images")
    return target


def _lines(source: Path, target: Path, count: int) -> None:
    lines = source.read_text(encoding="utf-8").splitlines()[:count]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def recipe(root: Path, path: Path, change: Callable[[Recipe], Any] = lambda data: None) -> Path:
    """The demo's recipe for the three corpora, in small shards; `change` may edit it before it is written."""
    data = yaml.safe_load(small.DEMO.read_text(encoding="utf-8"))
    data["root"] = str(root)
    data["corpora"] = [corpus for corpus in data["corpora"] if corpus["corpus"] in NAMES]
    for corpus in data["corpora"]:
        # Every sample of a small corpus counts here, near-duplicates made on purpose too.
        corpus["dedup"] = [spec for spec in corpus["dedup"] if not {"decontaminate", "minhash"} & set(spec)]
        corpus["holdout"] = {"share": 0.2, "by": "id"}
    data["gates"] = []
    data["mixture"] = {"shares": {"image": 0.6, "text": 0.4}}
    data["shards"]["samples"] = 20
    change(data)
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return path


def run(root: Path, out: Path, change: Callable[[Recipe], Any] = lambda data: None) -> Outcome:
    """Curates into `out`; the recipe stays in `out/recipe.yaml`."""
    out.mkdir(parents=True, exist_ok=True)
    return curate(load_recipe(recipe(root, out / "recipe.yaml", change)), out, runner="local")


def traces(run: Path, needles: list[bytes]) -> list[str]:
    """Files under a run whose bytes, or decoded columns, hold any of these."""
    found = []
    for path in sorted(path for path in run.rglob("*") if path.is_file() and not path.is_symlink()):
        content = path.read_bytes()
        if path.suffix == ".parquet" and content:
            content = repr(pq.read_table(path).to_pylist()).encode()
        if any(needle in content for needle in needles):
            found.append(str(path.relative_to(run)))
    return found
