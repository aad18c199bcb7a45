"""Formulas of one meaning; nothing that a formula holds breaks a pool, from threads and forked processes alike."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from data_engine.verify import formula, formula_plain
from data_engine.verify.check import judge
from data_engine.verify.formula import Formulas
from data_engine.verify.truth import truth_from
from tests.data_engine.verify import fuzzed

pytest.importorskip("math_verify")
PAIRS = Path(__file__).with_name("formula_pairs.tsv")
HUGE = "9^{9^{9^{9^{9}}}}"


@pytest.fixture(scope="module")
def pool() -> Iterator[Formulas]:
    with Formulas(workers=2, seconds=3) as pool:
        yield pool


def _lines() -> list[list[str]]:
    return [line.split("\t") for line in PAIRS.read_text(encoding="utf-8").splitlines() if line[:1] in "=!"]


def test_labelled_pairs_in_either_order(pool: Formulas) -> None:
    lines = _lines()
    assert len(lines) >= 150
    assert [line for line in lines if pool.judge(line[1], line[2]).right != (line[0] == "=")] == []
    unequal = [line for line in lines if line[0] == "!"]
    assert [line for line in unequal if pool.judge(line[2], line[1]).right] == []


def test_polynomials_in_other_forms_and_with_one_coefficient_off(pool: Formulas) -> None:
    import sympy

    rng, x = random.Random(3), sympy.Symbol("x")
    for _ in range(12):
        roots = [rng.randint(-9, 9) for _ in range(3)]
        factored = sympy.prod([x - root for root in roots])
        other = sympy.expand(factored)
        assert pool.judge(sympy.latex(factored), sympy.latex(other)).right
        assert pool.judge(str(other), sympy.latex(factored)).right
        assert not pool.judge(sympy.latex(factored), sympy.latex(other + rng.choice((-1, 1, x)))).right


def test_fuzzed_answers_are_all_judged(pool: Formulas) -> None:
    items = list(fuzzed.pairs(300, seed=20))
    hard = Formulas(workers=1, seconds=0.1)
    with hard:
        judged = [hard.judge(*item) for item in items]
    assert len(judged) == 300
    assert all(judgement.why for judgement in judged)
    assert pool.judge("x+1", "1+x").right


def test_a_formula_without_end_is_stopped_and_the_next_is_judged() -> None:
    with Formulas(workers=1, seconds=0.3) as pool:
        for _ in range(3):
            judgement = pool.judge("x+1", HUGE)
            assert not judgement.right
            assert judgement.why == "not judged within 0.3 s"
            assert pool.judge("(x+1)^2", "x^2+2x+1").right


def test_a_worker_that_is_killed_or_out_of_memory_is_replaced() -> None:
    with Formulas(workers=1, seconds=20, memory_mb=400) as pool:
        assert pool.judge("x+1", "1+x").right
        worker = pool._idle.queue[0]
        assert worker._child is not None
        os.kill(worker._child, signal.SIGKILL)
        assert not pool.judge("x+1", "2+x").right
        assert pool.judge("x+1", "1+x").right
        assert worker._program is not None
        os.killpg(worker._program.pid, signal.SIGKILL)
        worker._program.wait()
        assert pool.judge("x+1", "1+x").right
        assert not pool.judge("x", "2^{2^{34}}").right
        assert pool.judge("2x", "x+x").right


def test_more_threads_than_workers_get_each_their_own_answer(pool: Formulas) -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for power in range(1, 9):
            right = pool.judge(f"x^{{{number}}}", f"x^{{{number + power}}}/x^{{{power}}}").right
            other = pool.judge(f"x^{{{number}}}", f"x^{{{number + power}}}").right
            wrong.extend([number] * (not right or other))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def _forked(pool: Formulas, results: "multiprocessing.Queue[tuple[bool, bool]]", number: int) -> None:
    right = all(pool.judge(f"y^{{{number}}}+1", f"1+y\\cdot y^{{{number - 1}}}").right for _ in range(5))
    results.put((right, pool.judge("y", f"y^{{{number}}}").right))
    pool.close()


def test_forked_processes_have_workers_of_their_own(pool: Formulas) -> None:
    assert pool.judge("x+1", "1+x+0").right  # the parent's workers are up
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[tuple[bool, bool]] = context.Queue()
    children = [context.Process(target=_forked, args=(pool, results, number)) for number in (3, 4)]
    for child in children:
        child.start()
    assert pool.judge("x+2", "2+x+0").right
    assert [results.get(timeout=120) for _ in children] == [(True, False)] * 2
    for child in children:
        child.join()


def test_a_closed_pool_leaves_no_process() -> None:
    pool = Formulas(workers=1, seconds=1)
    assert pool.judge("a+b", "b+a").right
    program = pool._idle.queue[0]._program
    assert program is not None
    pool.close()
    with pytest.raises(ProcessLookupError):
        os.killpg(program.pid, 0)
    assert pool.judge("a+b", "b+a").right  # used again, it starts again
    pool.close()


KILLED = """
import threading, time
from data_engine.verify.formula import Formulas
pool = Formulas(workers=1, seconds=0.5)
pool.judge("x+1", "1+x")
worker = pool._idle.queue[0]
threading.Thread(target=pool.judge, args=("x+1", "9^{9^{9^{9^{9}}}}")).start()
print(worker._program.pid, flush=True)
threading.Event().wait()
"""


def test_a_program_that_is_killed_leaves_no_process() -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        worker = psutil.Process(int(program.stdout.readline()))
        program.kill()
    worker.wait(timeout=60)
    assert not worker.is_running()


def test_what_is_easy_asks_no_process() -> None:
    easy = [("x+1", "$x + 1$"), ("\\frac12", "0.5"), ("5", "\\boxed{5}"), ("5", "6"), ("x", "x" * 100_000), ("x", "")]
    assert [formula_plain.judge(*pair) is not None for pair in easy] == [True] * len(easy)
    assert "100,000 characters long" in formula_plain.judge("x", "x" * 100_000).why  # type: ignore[union-attr]
    assert formula_plain.judge("x+1", "1+x") is None
    assert formula_plain.judge("1/3", "0.3333") is None  # may be the truth's decimals


def test_readings_without_end_are_stopped_together() -> None:
    truth = truth_from({"kind": "formula", "value": "x+1", "also": ["y+1"]})
    with Formulas(workers=1, seconds=0.5) as pool:
        said = judge(truth, f"The value is {HUGE}\nso it is ${HUGE}$", formulas=pool)
    assert (said.right, said.why) == (False, "not judged within 0.5 s")


def test_the_default_pool_serves_everyone() -> None:
    assert formula.judge("x+1", "1+x").right
    assert formula.judge(["a", "x+1"], ["b", "1+x"]).right
    with pytest.raises(ValueError, match="workers must be 1 or more"):
        Formulas(workers=0)
