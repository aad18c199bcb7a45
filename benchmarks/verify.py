"""The verifiers of answers, measured.

    python benchmarks/verify.py formulas [--items 10000]   fuzz: crashes, time limits, throughput; the labelled pairs
    python benchmarks/verify.py visual [--items 400]        planted right answers, wrong ones and near-misses by kind
    python benchmarks/verify.py champ                       final answers of models, beside people's marks

`visual` reads the easy-vqa corpus of `keyeforge fetch`; `champ` downloads champ-dataset by pip.
"""

import argparse
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
from verifying import champ, visual  # noqa: E402

from data_engine.verify.formula import SECONDS, Formulas  # noqa: E402
from tests.data_engine.verify import fuzzed  # noqa: E402

PAIRS = ROOT / "tests/data_engine/verify/formula_pairs.tsv"
THREADS = 2


def fuzz(count: int) -> None:
    """Prints what became of `count` fuzzed pairs, judged from several threads at once."""
    items = list(fuzzed.pairs(count, seed=7))
    found: list[tuple[float, str, int]] = []
    crashes: list[str] = []

    def work(formulas: Formulas, first: int) -> None:
        for number in range(first, len(items), THREADS):
            started = time.monotonic()
            try:
                judgement = formulas.judge(*items[number])
            except Exception as error:  # a crash is what is counted
                crashes.append(f"{items[number]!r:.200}: {error!r:.200}")
                continue
            found.append((time.monotonic() - started, judgement.why, number))

    with Formulas(workers=THREADS) as formulas:
        formulas.judge("x+1", "2x")  # the first worker is up
        started = time.monotonic()
        threads = [threading.Thread(target=work, args=(formulas, first)) for first in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - started
    _tell(items, found, crashes, seconds)


def _tell(
    items: list[tuple[str, str]], found: list[tuple[float, str, int]], crashes: list[str], seconds: float
) -> None:
    late = sum("not judged within" in why for _, why, _ in found)
    died = sum("ended its process" in why for _, why, _ in found)
    print(f"{len(items):,} fuzzed pairs, {THREADS} workers: {seconds:.0f} s, {len(items) / seconds:.0f} a second")
    print(f"crashes {len(crashes)}; stopped at {SECONDS:g} s: {late}; ended their worker process: {died}")
    print("slowest:")
    for took, why, number in sorted(found, reverse=True)[:5]:
        print(f"  {took:5.2f} s  {items[number]!r:.90}  {why}")
    for crash in crashes[:10]:
        print(f"  CRASH {crash}")


def labelled() -> None:
    """Prints the accuracy on the labelled pairs, and those it gets wrong."""
    lines = [line.split("\t") for line in PAIRS.read_text(encoding="utf-8").splitlines() if line[:1] in "=!"]
    with Formulas(workers=THREADS) as formulas:
        right = [formulas.judge(gold, answer).right == (verdict == "=") for verdict, gold, answer in lines]
    equal = [hit for hit, line in zip(right, lines, strict=True) if line[0] == "="]
    print(f"labelled pairs: {sum(right)} of {len(right)} right ({len(equal)} equal, {len(right) - len(equal)} not)")
    for hit, line in zip(right, lines, strict=True):
        if not hit:
            print(f"  wrong: {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("formulas", "visual", "champ")
    parser.add_argument("part", nargs="*", choices=[*parts, []], help="all without")
    parser.add_argument("--items", type=int)
    arguments = parser.parse_args()
    for part in arguments.part or parts:
        if part == "formulas":
            labelled()
            fuzz(arguments.items or 10_000)
        elif part == "visual":
            visual.report(arguments.items or 400)
        else:
            champ.report()


if __name__ == "__main__":
    main()
