"""Near-duplicate removal, end to end, beside rensa, data-juicer and datatrove, in English and in Chinese.

python benchmarks/near_duplicates.py [--documents 500000] [--peer-documents 10000]

All sides read one Parquet file of texts (ours in its own table of samples) and say which row is kept for each; CPU-
seconds of the whole process and its children, start-up (imports, compilation, models) apart. Ours and rensa, with
shingles made in Python, do `--documents`, half in each language; the two slower ones do `--peer-documents` a language,
and so does ours beside them: their cost a document does not fall with more of them, so the smaller size favours them.
Planted pairs are judged by the true Jaccard similarity of their 5-grams, and of every component of ours it is checked
by brute force that each member is that similar to another. Written to build/bench/near_duplicates.json.
"""

import argparse
import re
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import peers  # noqa: E402
from grown import rows as grown  # noqa: E402
from grown.documents import documents  # noqa: E402
from measuring import save  # noqa: E402
from peers.clock import cpu_seconds  # noqa: E402

from data_engine import sample as samples  # noqa: E402
from data_engine import tables  # noqa: E402
from data_engine.curation import Curation  # noqa: E402
from data_engine.dedup import minhash  # noqa: E402
from data_engine.dedup.rows import Part, Rows  # noqa: E402
from data_engine.demo_corpora import default_cache, fetch  # noqa: E402
from data_engine.recipe import Recipe  # noqa: E402
from data_engine.sample import Sample, document  # noqa: E402
from data_engine.step import Run  # noqa: E402

Ints = npt.NDArray[np.int64]
PARTS = 20_000
THRESHOLD = 0.8
JUDGED = 20_000  # planted copies, the first of each text
GOALS = {"rensa": 3, "data_juicer": 40, "datatrove": 90}
SLOW = ("data_juicer", "datatrove")


def ours(texts: pa.Array, folder: Path) -> dict[str, Any]:
    """CPU-seconds of the local runner, and the row kept in each row's place."""
    before = cpu_seconds()
    few = texts.slice(0, 200)
    _find(pa.concat_arrays([few, few]), folder / "warm-up")  # compiles, or loads what was compiled, also for pairs
    start_up = cpu_seconds() - before
    return {**_find(texts, folder / "all"), "start_up": start_up}


def _find(texts: pa.Array, folder: Path) -> dict[str, Any]:
    rows = _rows(texts, folder / "parts")
    source = {"format": "text", "path": ".", "modality": "text", "task": "text", "licence": "CC0"}
    run = Curation(Recipe.model_validate({"corpus": "c", "sources": [source]}), Run(folder / "run"), "local")
    work = folder / "work"
    work.mkdir(parents=True)
    before = cpu_seconds()
    found = minhash.find(rows, minhash.MinHash(threshold=THRESHOLD), run, work)
    used = cpu_seconds() - before
    keeper = np.arange(len(texts))
    keeper[found.row] = found.keeper
    return {"cpu": used, "keeper": keeper, "layout": list(minhash.MinHash(threshold=THRESHOLD).layout)}


def _rows(texts: pa.Array, folder: Path) -> Rows:
    parts = []
    for index, start in enumerate(range(0, len(texts), PARTS)):
        chunk = texts[start : start + PARTS].to_pylist()
        table = samples.to_table(
            [Sample("c", "text", "t", (document(text),), origin=str(i)) for i, text in enumerate(chunk)]
        )
        measures = pa.table({"id": table["id"], "media_keys": pa.array([[]] * len(chunk), pa.list_(pa.string()))})
        where = [folder / name / f"part-{index:05d}.parquet" for name in ("samples", "measures")]
        for found, path in zip((table, measures), where, strict=True):
            tables.write(found, path)
        parts.append(Part(*where))
    return Rows(parts)


def judged(texts: pa.Array, of: Ints, keeper: Ints, chinese: bool) -> dict[str, Any]:
    """Of the planted pairs truly similar enough, the share that ends in one component; what else was dropped."""
    truly = found = 0
    for row in np.flatnonzero(of != np.arange(len(of)))[:JUDGED]:
        if _jaccard(*(_shingles(texts[int(i)].as_py(), chinese) for i in (row, of[row]))) >= THRESHOLD:
            truly += 1
            found += int(keeper[row] == keeper[of[row]])
    stray = (keeper != np.arange(len(of))) & (keeper != of) & (keeper[of] != keeper)
    return {"pairs": truly, "recall": found / max(truly, 1), "dropped_unplanted": int(stray.sum())}


def lonely(texts: pa.Array, keeper: Ints, chinese: bool) -> tuple[int, int]:
    """(components of two or more, members that are below the threshold to all others of theirs), by brute force."""
    members = defaultdict(list)
    for row in np.flatnonzero(np.bincount(keeper, minlength=len(keeper))[keeper] > 1):
        members[keeper[row]].append(_shingles(texts[int(row)].as_py(), chinese))
    alone = sum(
        all(_jaccard(one, other) < THRESHOLD for other in sets if other is not one)
        for sets in members.values()
        for one in sets
    )
    return len(members), alone


def _shingles(text: str, chinese: bool) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"[\u4e00-\u9fff]", text) if chinese else re.findall(r"[A-Za-z]+", text.casefold())
    return frozenset(tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4)))


def _jaccard(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def compare(name: str, texts: pa.Array, of: Ints, sides: tuple[str, ...], folder: Path) -> list[dict[str, Any]]:
    """A line per side, ours first, all on the same texts."""
    chinese = name == "zh"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"text": texts}), folder / "texts.parquet")
    lines = []
    for side in ("keyeforge", *sides):
        found = ours(texts, folder) if side == "keyeforge" else _peer(side, name, folder)
        keeper = np.array(found.pop("keeper"))
        line = {"language": name, "side": side, "documents": len(texts), **found}
        line |= {"per_cpu_second": len(texts) / found["cpu"], **judged(texts, of, keeper, chinese)}
        if side == "keyeforge":
            line["components"], line["lonely"] = lonely(texts, keeper, chinese)
        lines.append(line)
        show(line)
    return lines


def _peer(side: str, name: str, folder: Path) -> dict[str, Any]:
    return peers.run(side, f"{side}_minhash.py", folder / f"{side}.json", folder / "texts.parquet", name)


def show(line: dict[str, Any]) -> None:
    print(
        f"{line['language']} {line['side']:<11} {line['documents']:>8,} documents {line['cpu']:8.1f} CPU-s"
        f" (start-up {line['start_up']:4.1f}) {line['per_cpu_second']:9,.0f} documents/CPU-s, recall"
        f" {line['recall']:.4f} of {line['pairs']:,} planted pairs, dropped for no planted reason"
        f" {line['dropped_unplanted']}",
        flush=True,
    )
    if "components" in line:
        print(
            f"{'':14} {line['components']:,} components of two or more, all compared by brute force: {line['lonely']}"
            f" members below {THRESHOLD} to all others"
        )


def ratios(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of documents a CPU-second, ours to each peer's: at ours' full size, and on the same documents."""
    found = []
    for line in lines:
        if line["side"] != "keyeforge":
            mine = [one for one in lines if one["side"] == "keyeforge" and one["language"] == line["language"]]
            same = next(one for one in mine if one["documents"] == line["documents"])
            full, rate = max(mine, key=lambda one: one["documents"]), line["per_cpu_second"]
            ratio = {"full": full["per_cpu_second"] / rate, "same": same["per_cpu_second"] / rate}
            found.append({"language": line["language"], "peer": line["side"], **ratio, "goal": GOALS[line["side"]]})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=500_000)
    parser.add_argument("--peer-documents", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("build/near_duplicates"))
    options = parser.parse_args()
    fetch()
    ground = grown.soil(default_cache())
    shutil.rmtree(options.out, ignore_errors=True)
    lines = []
    for name in ("en", "zh"):
        sizes = {options.documents // 2: ("rensa",), options.peer_documents: SLOW}
        for count, sides in sizes.items():
            texts, of = documents(ground, name == "zh", count, seed=int(name == "zh"))
            lines += compare(name, texts, of, sides, options.out.resolve() / f"{name}-{count}")
    found = ratios(lines)
    for one in found:
        print(
            f"{one['language']}: {one['full']:.1f} x {one['peer']} (on the same documents {one['same']:.1f}), goal"
            f" {one['goal']}: {'yes' if one['full'] >= one['goal'] else 'NO'}"
        )
    save("near_duplicates", {"lines": lines, "ratios": found})


if __name__ == "__main__":
    main()
