"""Small corpora for the instruction job, with one row of every planted kind; and the tables that a run leaves."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from data_engine import catalog
from data_engine.curate import curate
from data_engine.recipe import load_recipe

SOURCE = {"format": "conversations", "modality": "text", "task": "sft", "licence": "MIT"}


def row(question: str, answer: str, **more: Any) -> str:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return json.dumps({"conversations": turns, **more}, ensure_ascii=False)


def problems(corpora: Any) -> list[tuple[str, str]]:
    """Sixty questions and answers of some length, of the competition problems."""
    lines = (corpora / "champ/champ.jsonl").read_text(encoding="utf-8").splitlines()
    found = [tuple(turn["value"] for turn in json.loads(line)["conversations"][:2]) for line in lines]
    return [pair for pair in found if len(pair[0].split()) >= 15 and len(pair[1].split()) >= 40][:60]  # type: ignore[misc]


def write(root: Path, problems: list[tuple[str, str]], name: str) -> Path:
    """Rows 10 to 59 as they are, and one row of every planted kind; rows 0 to 9 are the benchmark."""
    (root / "rows").mkdir(parents=True)
    (root / "benchmark").mkdir()
    (root / "benchmark/b.jsonl").write_text("\n".join(row(*pair) for pair in problems[:10]), encoding="utf-8")
    lines = [row(*pair, task=f"math/{i % 3}") for i, pair in enumerate(problems[10:])]
    question, answer = problems[10]
    lines += [
        row(f"  {question.upper()} ", answer, attribution="exact", task="math/0"),
        row(question, answer + " Quite so.", attribution="near", task="math/0"),
        row(problems[3][0], "No idea.", attribution="leak"),
        row(
            "What may be used of this, and by whom?",
            "Nothing, by nobody.",
            attribution="refused",
            licence="CC-BY-NC-4.0",
        ),
        row("One and one?", "Two.", attribution="easy", trials=[{"correct": True, "tokens": 4}] * 4),
        '{"conversations": [',
    ]
    (root / "rows/r.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = {"format": "conversations", "modality": "text", "task": "sft", "licence": "MIT"}
    recipe = {
        "root": str(root),
        "corpus": "sft",
        "sources": [{**source, "path": "rows"}],
        "rights": {"refused": ["CC-BY-NC*"]},
        "operators": [
            {"turn_order": {}},
            {"media_reference": {}},
            {"difficulty": {}},
            {"task_type": {"topic_count": 2}},
        ],
        "dedup": [
            {"exact": {}},
            {"minhash": {"threshold": 0.8}},
            {"decontaminate": {"benchmarks": [{**source, "path": "benchmark"}]}},
            {"balance": {"cap": 14}},
        ],
        "target": "samples",
    }
    path = root / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def many(recipe: Path, pairs: list[tuple[str, str]], rows: int) -> Path:
    """The recipe over as many more rows, whose sentences are drawn from those of the problems, cut into eight parts and
    more, and judged by every operator of text: enough work that a part takes a second."""
    random = np.random.default_rng(0)
    sentences = [sentence for pair in pairs for sentence in pair[1].split(". ") if len(sentence.split()) > 4]
    drawn = (". ".join(sentences[i] for i in random.integers(0, len(sentences), 25)) for _ in range(rows))
    lines = [row(f"Problem {n}: {pairs[n % 50 + 10][0]}", answer, task=f"math/{n}") for n, answer in enumerate(drawn)]
    (recipe.parent / "rows/more.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    data["operators"] += [
        {name: {}} for name in ("web_text", "language", "repetition", "pii", "garbled", "text_quality")
    ]
    path = recipe.with_name("many.yaml")
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def pictures(corpora: Any, root: Path) -> dict[str, Any]:
    """A corpus of twelve captioned stamps of which two come again, one as it is and one a little smaller."""
    folder = root / "pictures"
    folder.mkdir(parents=True)
    stamps = sorted(path for path in (corpora / "stamps").rglob("*.png") if path.with_suffix(".txt").exists())[::40][
        :12
    ]
    for number, path in enumerate([*stamps, stamps[3], stamps[5]]):
        picture = Image.open(path).convert("RGB")
        size = (picture.width - 2, picture.height - 2) if number == 13 else picture.size
        picture.resize(size).save(folder / f"{number:02d}.png")
        (folder / f"{number:02d}.txt").write_bytes(path.with_suffix(".txt").read_bytes())
    return {
        "corpus": "pictures",
        "sources": [{**SOURCE, "format": "captions", "modality": "image", "path": "pictures"}],
        "operators": [{"resolution": {}}, {"blank": {}}],
        "dedup": [{"exact": {}}, {"perceptual": {}}],
    }


def with_corpus(recipe: Path, corpus: dict[str, Any]) -> Path:
    """The recipe of one corpus made one of two, beside it."""
    data = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    first = {key: data.pop(key) for key in ("corpus", "sources", "operators", "dedup")}
    path = recipe.with_name(f"two_{recipe.name}")
    path.write_text(yaml.safe_dump({**data, "corpora": [first, corpus]}), encoding="utf-8")
    return path


def digests(run: Path) -> dict[str, str]:
    """A checksum of every table part of every step of a run, and of what was released."""
    files = {
        f"{step}/{file.relative_to(folder)}": file
        for step, folder in catalog.steps(run).items()
        for file in folder.rglob("*.parquet")
        if "_in" not in file.parts
    }
    files["manifest.json"] = run / "release" / "manifest.json"
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in sorted(files.items())}


def large(corpora: Any, root: Path, rows: int) -> Path:
    """The recipe of so many instructions with planted rows, enough for some work in each part, and a few pictures."""
    pairs = problems(corpora)
    return with_corpus(many(write(root, pairs, "sft"), pairs, rows), pictures(corpora, root))


def left_by_local(recipe: Path) -> dict[str, str]:
    """What the local runner leaves."""
    assert not curate(load_recipe(recipe), recipe.parent / "local", runner="local").failed
    return digests(recipe.parent / "local")
