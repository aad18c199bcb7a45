"""Runs of the factory on questions whose every answer is known."""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from cot_factory.recipe import Factory, load


def write_sums(path: Path, number: int) -> None:
    """Sums as a file of questions, two of three about a picture of the same pair."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for at in range(number):
        one, two = 11 + at, 20 + (at * 7) % 40
        line: dict[str, Any] = {"question": f"What is {one} plus {two}?", "answer": str(one + two)}
        if at % 3:
            picture = path.parent / f"pair{at // 3}.png"
            Image.new("RGB", (24, 24), (at % 250, 90, 120)).save(picture)
            line |= {"images": [picture.name], "facts": [f"the sum shown is {one} + {two}"]}
            line |= {"boxes": [[2, 2, 20, 20, "sum"]], "licence": "MIT", "attribution": "the tests"}
        lines.append(json.dumps(line))
    path.write_text("\n".join(lines) + "\n")


def recipe(folder: Path, url: str, number: int = 24, **more: Any) -> Factory:
    """A recipe of sums, asked of the adding server."""
    write_sums(folder / "sums" / "sums.jsonl", number)
    data = {
        "root": str(folder),
        "questions": [{"domain": "mathematics", "file": "sums/sums.jsonl", "truth": {"kind": "number"}}],
        "teachers": [{"name": "adder", "url": url, "model": "adder", "back_off": 0}],
        "generate": {"paths": 4},
        "partition": 8,
        **more,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(data))
    return load(path)


def content(folder: Path) -> dict[str, str]:
    """A hash of every file of what a run leaves for others: the release, the repeats, and the queue's tasks."""
    files = [folder / "repeats.parquet", folder / "review" / "tasks.jsonl"]
    files += sorted(file for file in (folder / "release").resolve().rglob("*") if file.is_file())
    kept = [file for file in files if file.name not in {"step.json", "_begun"}]
    return {_name(file, folder): hashlib.sha256(file.read_bytes()).hexdigest() for file in kept}


def _name(file: Path, folder: Path) -> str:
    release = (folder / "release").resolve()
    return str(file.relative_to(release if file.is_relative_to(release) else folder))
