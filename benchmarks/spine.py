"""The figures of the whole path, from nothing: a fresh clone, `make demo`, then a table beside the goals.

    python benchmarks/spine.py [--keep DIR]

Run it on an idle machine. Set-up, fetching and every step are inside the timed command; a warm package
cache is the client's own affair and is said in the table's title where KEYEFORGE_CACHE is not set to a new folder.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="make the copy here and leave it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        clone = (options.keep or Path(scratch) / "keyeforge").resolve()
        subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(clone)], check=True)
        print(f"make demo in a fresh clone: {clone}")
        started = time.perf_counter()
        subprocess.run(["make", "demo"], cwd=clone, check=True)
        seconds = time.perf_counter() - started
        show(json.loads((clone / "build/demo/summary.json").read_text()), clone / "build/demo", seconds)


def show(summary: dict[str, Any], run: Path, seconds: float) -> None:
    """One line per figure: what was measured, the goal, whether it holds."""
    index = json.loads((run / "run.json").read_text())["steps"]
    mix = json.loads((run / index["mix"] / "mix.json").read_text())
    error = max(abs(mix["achieved"][name] - share) for name, share in mix["target"].items())
    bound = mix["largest_sample"] / mix["tokens"]
    easy = summary["eval"]["easy_vqa_test"]
    rows = [
        ("make demo, minutes, set-up included", seconds / 60, "<= 20", seconds <= 1200),
        ("peak memory, GiB", summary["peak_memory_bytes"] / 2**30, "< 8", summary["peak_memory_bytes"] < 8 * 2**30),
        ("mix error (bound: largest sample / tokens)", error, f"<= {bound:.6f}", error <= bound),
        ("easy-vqa test accuracy", easy["accuracy"], ">= 0.78", easy["accuracy"] >= 0.78),
        ("  with blank images", easy["accuracy_blank_images"], "near the next", True),
        ("  best answer from the question alone", easy["question_only_baseline"], "", True),
        ("  majority answer", easy["majority_baseline"], "", True),
    ]
    for stage in ("stage1", "stage2"):
        right, shuffled = (summary["stages"][stage][f"heldout_loss{end}"] for end in ("", "_shuffled_images"))
        rows.append((f"{stage}: held-out loss, images shuffled - right", shuffled - right, "> 0", shuffled > right))
    for name, value, goal, holds in rows:
        print(f"{name:<48} {value:>10.4f}  {goal:<16} {'yes' if holds else 'NO'}")


if __name__ == "__main__":
    main()
