"""The teacher pipeline beside a bare client, and what it was chosen by.

    python benchmarks/teachers.py [--rounds 15] [--requests 1500]

Prints three tables. First `ask` with its cache against the same HTTP library without cache, hashing, retries or order,
both with 16 requests in flight to a server on this machine that answers at once, in turn within each round: requests
a second, CPU-seconds of the client a thousand requests, and the medians of the rounds' ratios, for questions of text
and for pictures. Then bare clients of three libraries, then two ways to keep a cache. Run it on an idle machine: the
server has a core of its own or takes the client's.
"""

import argparse
import asyncio
import base64
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import numpy as np
import orjson
import urllib3

from data_engine.media import MediaStore, encode_jpeg
from data_engine.sample import Media
from data_engine.teachers.ask import ask
from data_engine.teachers.cache import Cache
from data_engine.teachers.pictures import Pictures
from data_engine.teachers.recipe import Pool, Teacher
from data_engine.teachers.request import Answer, Image, Request, question

IN_FLIGHT = 16
PICTURES = 64
HEADERS = {"Content-Type": "application/json"}
CAPTION = "A red kangaroo stands on dry grass and looks at the camera; behind it two more are grazing. " * 3
BODY = orjson.dumps(
    {
        "id": "1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": CAPTION}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 211, "completion_tokens": 63, "total_tokens": 274},
    }
)  # fmt: skip
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)

Part = str | Path
Work = Callable[[str, list[Part]], None]


class AtOnce(asyncio.Protocol):
    """A server that reads a request to its end and sends the same answer, as cheaply as Python can."""

    def connection_made(self, transport: Any) -> None:
        self.transport, self.head, self.left = transport, b"", 0

    def data_received(self, data: bytes) -> None:
        if not self.left:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            length = self.head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            self.left, data, self.head = int(length), self.head[end + 4 :], b""
        self.left -= len(data)
        if self.left <= 0:
            self.left = 0
            self.transport.write(REPLY)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(AtOnce, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def body(number: int, part: Part) -> bytes:
    """What a bare client sends: it reads and encodes a picture too."""
    content: Any = f"{number}: {part}"
    if isinstance(part, Path):
        url = f"data:image/jpeg;base64,{base64.b64encode(part.read_bytes()).decode()}"
        content = [{"type": "text", "text": f"{number}: Describe."}, {"type": "image_url", "image_url": {"url": url}}]
    messages = [{"role": "user", "content": content}]
    return orjson.dumps({"model": "m", "messages": messages, "temperature": 0.0, "seed": 0, "max_tokens": 512})


def said(content: bytes) -> str:
    text: str = orjson.loads(content)["choices"][0]["message"]["content"]
    return text


def bare_aiohttp(url: str, parts: list[Part]) -> None:
    async def send(session: aiohttp.ClientSession, numbered: Iterator[tuple[int, Part]]) -> None:
        for number, part in numbered:
            async with session.post(url, data=body(number, part), headers=HEADERS) as response:
                said(await response.read())

    async def run() -> None:
        timeout = aiohttp.ClientTimeout(total=60)
        connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            numbered = iter(enumerate(parts))
            await asyncio.gather(*(send(session, numbered) for _ in range(IN_FLIGHT)))

    asyncio.run(run())


def bare_httpx(url: str, parts: list[Part]) -> None:
    async def send(client: httpx.AsyncClient, numbered: Iterator[tuple[int, Part]]) -> None:
        for number, part in numbered:
            said((await client.post(url, content=body(number, part), headers=HEADERS)).content)

    async def run() -> None:
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=IN_FLIGHT)) as client:
            numbered = iter(enumerate(parts))
            await asyncio.gather(*(send(client, numbered) for _ in range(IN_FLIGHT)))

    asyncio.run(run())


def bare_urllib3(url: str, parts: list[Part]) -> None:
    pool = urllib3.PoolManager(maxsize=IN_FLIGHT, block=True)
    numbered, lock = iter(enumerate(parts)), threading.Lock()

    def send() -> None:
        while True:
            with lock:
                found = next(numbered, None)
            if found is None:
                return
            said(pool.request("POST", url, body=body(*found), headers=HEADERS).data)

    threads = [threading.Thread(target=send) for _ in range(IN_FLIGHT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def ours(folder: Path) -> Work:
    """The pipeline, with a new cache each time."""

    def requests(parts: list[Part]) -> Iterator[Request]:
        for number, part in enumerate(parts):
            if isinstance(part, Path):
                yield question(f"{number}: Describe.", Image(Media("image", part.name)))
            else:
                yield question(f"{number}: {part}")

    def work(url: str, parts: list[Part]) -> None:
        teacher = Teacher(name="t", url=url.removesuffix("/chat/completions"), model="m", concurrency=IN_FLIGHT)
        with tempfile.TemporaryDirectory() as scratch:
            answers = ask(
                Pool(teachers=(teacher,)),
                requests(parts),
                pictures=Pictures(MediaStore(folder)),
                cache=Cache(Path(scratch)),
            )
            assert sum(isinstance(answer, Answer) for answer in answers) == len(parts)

    return work


def timed(work: Work, url: str, parts: list[Part]) -> tuple[float, float]:
    """(requests a second, CPU-seconds a thousand requests) of this process."""
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work(url, parts)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return len(parts) / seconds, 1000 * spent / len(parts)


def pictures(folder: Path) -> list[Part]:
    """Photographs' worth of JPEG (some 100 kB each) in a media store."""
    random, store = np.random.default_rng(0), MediaStore(folder)
    found: list[Part] = []
    for _ in range(PICTURES):
        coarse = random.integers(0, 256, (60, 80, 3), np.uint8)
        found.append(store.path(store.put_bytes(encode_jpeg(coarse.repeat(8, 0).repeat(8, 1)), ".jpg")))
    return found


def against_bare(url: str, folder: Path, rounds: int, num_requests: int) -> None:
    photos = pictures(folder)
    size = sum(part.stat().st_size for part in photos if isinstance(part, Path)) // len(photos)
    kinds: dict[str, list[Part]] = {
        "text, 1 kB": ["word " * 200] * num_requests,
        f"picture, {size / 1000:.0f} kB": (photos * num_requests)[: max(200, num_requests // 3)],
    }
    print(f"{'requests':<18}{'bare /s':>9}{'ours /s':>9}{'throughput':>12}{'bare CPU':>10}{'ours CPU':>10}{'CPU':>8}")
    for kind, parts in kinds.items():
        pairs = []
        for turn in range(rounds):
            order = (bare_aiohttp, ours(folder)) if turn % 2 else (ours(folder), bare_aiohttp)
            found = [timed(work, url, parts) for work in order]
            pairs.append(found if turn % 2 else found[::-1])
        speed = [statistics.median(pair[side][0] for pair in pairs) for side in (0, 1)]
        spent = [statistics.median(pair[side][1] for pair in pairs) for side in (0, 1)]
        ratio = statistics.median(ours[0] / bare[0] for bare, ours in pairs)
        saved = statistics.median(bare[1] / ours[1] for bare, ours in pairs)
        print(
            f"{kind:<18}{speed[0]:>9.0f}{speed[1]:>9.0f}{ratio:>12.3f}{spent[0]:>10.3f}{spent[1]:>10.3f}{saved:>8.3f}"
        )


def clients(url: str, rounds: int, num_requests: int) -> None:
    works = {"aiohttp": bare_aiohttp, "urllib3, threads": bare_urllib3, "httpx": bare_httpx}
    parts: list[Part] = ["word " * 200] * (num_requests // 3)
    found = {name: [timed(work, url, parts) for _ in range(rounds // 3)] for name, work in works.items()}
    print(f"\n{'bare client':<18}{'requests/s':>12}{'CPU-s per 1000':>16}")
    for name, runs in found.items():
        print(f"{name:<18}{statistics.median(r[0] for r in runs):>12.0f}{statistics.median(r[1] for r in runs):>16.3f}")


def caches(num_answers: int = 20_000) -> None:
    """Keeping each answer by itself, as safe from a kill: a line of a file, or a row of an SQLite file (WAL)."""
    answer = Answer(CAPTION, "t", "m", 211, 63, "stop")
    keys = [number.to_bytes(8, "big") * 2 for number in range(num_answers)]
    with tempfile.TemporaryDirectory() as scratch:
        lines = Cache(Path(scratch) / "lines")
        started = time.perf_counter()
        for key in keys:
            lines.put(key, answer)
            lines.flush()
        appended = time.perf_counter() - started
        rows = sqlite3.connect(Path(scratch) / "rows.sqlite", isolation_level=None)
        rows.execute("pragma journal_mode=wal")
        rows.execute("pragma synchronous=off")
        rows.execute("create table answers (key blob primary key, record blob) without rowid")
        started = time.perf_counter()
        for key in keys:
            rows.execute("insert into answers values (?, ?)", (key, orjson.dumps([CAPTION, "t", "m", 211, 63, "stop"])))
        inserted = time.perf_counter() - started
        started = time.perf_counter()
        opened = Cache(Path(scratch) / "lines")
        reading = time.perf_counter() - started
        assert opened.get(keys[7])
    print(f"\n{'cache':<18}{'answers kept/s':>16}")
    print(
        f"{'lines of a file':<18}{num_answers / appended:>16.0f}   (read at the start: {num_answers / reading:.0f}/s)"
    )
    print(f"{'rows of SQLite':<18}{num_answers / inserted:>16.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    with (
        subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE) as server,
        tempfile.TemporaryDirectory() as scratch,
    ):
        assert server.stdout
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1/chat/completions"
        try:
            against_bare(url, Path(scratch), options.rounds, options.requests)
            clients(url, options.rounds, options.requests)
            caches()
        finally:
            server.kill()


if __name__ == "__main__":
    main()
