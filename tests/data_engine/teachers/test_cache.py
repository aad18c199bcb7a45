"""The cache on disk: what is written is found by others, what is torn or damaged is not, and a killed run goes on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_engine.teachers.cache import Cache
from data_engine.teachers.request import Answer, Token
from tests.data_engine.teachers.server import CountingServer

REPOSITORY = Path(__file__).parents[3]


def key(number: int) -> bytes:
    return np.random.default_rng(number).bytes(16)


def answer(number: int) -> Answer:
    tokens = (Token("a", -0.5), Token("\n", -1.25)) if number % 2 else None
    return Answer(f"text {number}\n图", "t", "m", number, 2, "stop", tokens, (-1.0, -2.0) if number % 3 else None)


def known(cache: Cache, number: int) -> bool:
    found = cache.get(key(number))
    assert found is None or (found.cached and found == answer_of(number))
    return found is not None


def answer_of(number: int) -> Answer:
    from dataclasses import replace

    return replace(answer(number), cached=True)


def filled(folder: Path, numbers: range) -> Path:
    """The file that a process with these answers leaves."""
    cache = Cache(folder)
    for number in numbers:
        cache.put(key(number), answer(number))
    cache.flush()
    return next(path for path in folder.glob("answers-*.jsonl") if path == cache._files[-1])


def test_what_one_process_keeps_the_next_finds(tmp_path: Path) -> None:
    filled(tmp_path, range(50))
    filled(tmp_path, range(40, 90))
    cache = Cache(tmp_path)
    assert all(known(cache, number) for number in range(90)) and not known(cache, 90)
    cache.put(key(90), answer(90))
    assert not known(cache, 90)
    cache.flush()
    assert known(cache, 90) and len(list(tmp_path.iterdir())) == 3


def test_a_file_torn_anywhere_gives_its_whole_lines(tmp_path: Path) -> None:
    path = filled(tmp_path, range(3))
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        cache = Cache(tmp_path)
        assert sum(known(cache, number) for number in range(3)) == data[:length].count(b"\n")


def test_a_damaged_byte_costs_one_answer(tmp_path: Path) -> None:
    path = filled(tmp_path, range(3))
    data = path.read_bytes()
    second = data.index(b"\n") + 1
    for place in range(second, data.index(b"\n", second)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        cache = Cache(tmp_path)
        assert known(cache, 0) and not known(cache, 1) and known(cache, 2)


def test_the_index_agrees_with_a_dict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("data_engine.teachers.cache._MERGE", 50)
    cache, truth = Cache(tmp_path), dict[bytes, Answer]()
    random = np.random.default_rng(0)
    for number in random.integers(0, 400, 2000).tolist():
        truth[key(number)] = Answer(f"{len(truth)} {random.integers(9)}", "t", "m", 1, 1, "stop", cached=True)
        cache.put(key(number), truth[key(number)])
        cache.flush()
    for place in (cache, Cache(tmp_path)):
        assert all(place.get(one) == found for one, found in truth.items())
        assert all(place.get(key(number)) is None for number in range(400, 800))


RUN = """
import sys
from pathlib import Path
from data_engine.teachers.ask import ask
from data_engine.teachers.cache import Cache
from data_engine.teachers.recipe import Pool, Teacher
from data_engine.teachers.request import question

url, folder, num = sys.argv[1:]
pool = Pool(teachers=(Teacher(name="t", url=url, model="m", concurrency=4, back_off=0.01),))
asked = (question(f"question {number}") for number in range(int(num)))
print(sum(1 for _ in ask(pool, asked, cache=Cache.at(Path(folder)))))
"""


def test_a_run_killed_half_way_repeats_at_most_one_in_a_hundred(server: CountingServer, tmp_path: Path) -> None:
    """By the server's own count: SIGKILL falls when half the requests have come."""
    num = 800
    command = [sys.executable, "-c", RUN, server.url, str(tmp_path), str(num)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as first:

        def kill(prompt: str) -> None:
            if server.asked.total() == num // 2:
                first.send_signal(signal.SIGKILL)

        server.gate = kill
        assert first.wait() == -signal.SIGKILL
    asked = server.asked.total()
    assert num // 2 <= asked <= num // 2 + 4
    server.gate = lambda prompt: None
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(again.stdout) == num and len(server.asked) == num
    assert server.asked.total() - num <= num / 100
