"""A program that compares formulas with math-verify; `data_engine.verify.formula` starts and keeps it.

It loads what it needs once and forks a process that takes `{"pairs": [[truth, answer], ...], "seconds": ...}`, one a
line, and writes `{"right": ...}` or `{"why": ...}`. Whoever finds that process late kills it: another is forked in
milliseconds and says `ready` with its process id. It ends when its standard input does; should its parent be gone, a
process that is late ends itself.
"""

import json
import logging
import os
import resource
import signal
import sys
from typing import Any, TextIO

READY = "ready"


def main() -> None:
    """Forks one process after the other until one has read its input to the end."""
    limit = int(sys.argv[1]) * 2**20
    out = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no answer
    compare = _load()
    parent = os.getppid()
    while os.getppid() == parent:
        child = os.fork()
        if child == 0:
            try:
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
                _serve(compare, out)
            finally:
                os._exit(1)
        if os.waitpid(child, 0)[1] == 0:
            return


def _serve(compare: Any, out: TextIO) -> None:
    print(READY, os.getpid(), file=out, flush=True)
    while line := sys.stdin.readline():
        item = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, 2 * item["seconds"] + 1)
        said = _said(compare, item)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(said), file=out, flush=True)
        if "why" in said:
            os._exit(1)  # after an error, of memory or of any kind, with a new process
    os._exit(0)


def _said(compare: Any, item: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"right": any(compare(gold, answer) for gold, answer in item["pairs"])}
    except Exception as error:  # of any library below, on any input; MemoryError and RecursionError among them
        return {"why": f"{type(error).__name__}: {str(error)[:100]}"}


def _load() -> Any:
    from math_verify import LatexExtractionConfig, parse, verify

    logging.disable(logging.CRITICAL)
    # LaTeX alone: its plain expressions are looked for in what is no LaTeX, and any number in it then is the formula.
    config = [LatexExtractionConfig(boxed_match_priority=0)]

    def read(text: str) -> list[Any]:
        found: list[Any] = parse(f"\\boxed{{{text}}}", config, parsing_timeout=None)
        return found

    def either(one: list[Any], other: list[Any]) -> bool:
        # math-verify takes an answer `x = 5` for a truth of 5, but not the other way: so it is asked both ways.
        return bool(verify(one, other, timeout_seconds=None) or verify(other, one, timeout_seconds=None))

    def compare(gold: str, answer: str) -> bool:
        one, other = read(gold), read(answer)
        if either(one, other):
            return True
        complexes = _with_imaginary(one), _with_imaginary(other)
        return complexes != (one, other) and either(*complexes)

    compare("\\frac{x^2-1}{x-1}", "x+1")  # everything is loaded before the memory is limited and the clock runs
    return compare


def _with_imaginary(found: list[Any]) -> list[Any]:
    """With the letter i, which may be a name or not, as the imaginary unit."""
    from sympy import I

    units = [{letter: I for letter in getattr(one, "free_symbols", ()) if letter.name == "i"} for one in found]
    return [one.subs(unit) if unit else one for one, unit in zip(found, units, strict=True)]


if __name__ == "__main__":
    main()
