"""Downloads from a server that misbehaves in every way we know of."""

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_engine.curate import curate
from data_engine.media import MediaStore
from data_engine.recipe import Recipe
from data_engine.sources import fetch, urls
from tests.data_engine.sources import badserver
from tests.data_engine.sources.badserver import BadServer
from tests.data_engine.sources.helpers import png, read_all, reasons, source_for

QUICK = {"timeout": 0.4, "deadline": 1.0, "backoff": 0.001, "host_seconds": 0.0, "max_bytes": 1_000_000, "workers": 4}
OPEN = {**QUICK, "allow_private": True}


@pytest.fixture
def server() -> Iterator[BadServer]:
    running = BadServer()
    fetch.shared.cache_clear()
    yield running
    running.close()


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    frame = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path, row_group_size=3)
    else:
        frame.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=False)


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.tsv"])
def test_captions_and_pictures_come_in_the_order_of_the_table(name, root, store, server):
    rows = [{"URL": f"{server.address}/fine/{'x' * n}", "TEXT": f"Caption, {n}."} for n in range(20)]
    rows[3]["TEXT"] = "三"
    write(root / name, rows)
    good, bad = read_all(urls, root, store, {**OPEN, "unit_rows": 2})
    assert bad == []
    assert [sample.messages[1].text for sample in good] == [row["TEXT"] for row in rows]
    assert [store.read(s.media[0].key) for s in good] == [png(shade=6 + n) for n in range(20)]
    assert good[4].origin == (f"{name}[4]" if name == "a.parquet" else f"{name}:6")
    assert server.asked.count("/robots.txt") == 1


FAULTS = {
    "absent": ("url", "status 404"),
    "gone": ("url", "status 410"),
    "broken": ("url", "status 500 (3 attempts)"),
    "slow": ("url", "no answer within 0.4 s (3 attempts)"),
    "drip": ("url", "not done within 1 s (3 attempts)"),
    "short": ("url", "(3 attempts)"),
    "huge": ("url", "more than 1,000,000 bytes"),
    "claims": ("url", "1,000,000,000 bytes; the limit is 1,000,000"),
    "noai": ("url", "opts out: X-Robots-Tag noai"),
    "noimageai": ("url", "opts out: X-Robots-Tag noimageai"),
    "html": ("image", "not an image in any known format; begins with b'<html>hello<'"),
    "empty": ("image", "empty file"),
    "bomb": ("image", "claims too many pixels"),
    "ring": ("url", "redirects run in a circle"),
    "stairs": ("url", "more than 5 redirects"),
    "away?http://a:b/": ("url", "no address"),
    "away?ftp://example.org/x": ("url", "not an http address"),
    "away?file:///etc/passwd": ("url", "not an http address"),
    "robbed/by/robots": ("url", "robots.txt disallows it"),
}
FINE = ("fine", "busy", "wrongtype", "otherbot", "moved")


def test_every_misbehaviour_is_told_and_the_rest_is_read(root, store, server):
    server.robots = (200, b"User-agent: *\nDisallow: /robbed\n")
    rows = [{"url": f"{server.address}/{path}", "caption": "A square."} for path in (*FAULTS, *FINE)]
    others = {
        "ftp://example.org/a.png": ("url", "not an http address"),
        "no address": ("url", "no address"),
        "http://": ("url", "not an http address"),
        "http://host.invalid/a": ("url", "does not resolve"),
        " ": ("url", "empty"),
    }
    rows += [{"url": url, "caption": "x"} for url in others]
    rows += [{"url": f"{server.address}/fine/again", "caption": caption} for caption in (" ", "a\0b")]
    write(root / "a.parquet", rows)
    good, bad = read_all(urls, root, store, OPEN)
    assert len(good) == len(FINE)
    found = reasons(bad)
    expected = [*FAULTS.values(), *((None, None) for _ in FINE), *others.values()]
    expected += [("caption", "empty"), ("caption", "NUL byte")]
    for number, (field, reason) in enumerate(expected):
        if field is not None:
            assert found[f"a.parquet[{number}]"][0] == field, (rows[number], found)
            assert str(reason) in found[f"a.parquet[{number}]"][1], (rows[number], found)
    assert server.asked.count("/busy") == 2 and server.asked.count("/broken") == 3
    assert server.asked.count("/robbed/by/robots") == 0 and server.asked.count("/fine/again") == 0


def test_what_is_known_is_not_asked_for_again(root, store, server):
    paths = ("fine", "absent", "noai", "html", "broken", "slow")
    write(root / "a.csv", [{"url": f"{server.address}/{path}", "caption": "A square."} for path in paths])
    first = read_all(urls, root, store, OPEN)
    server.asked.clear()
    second = read_all(urls, root, store, OPEN)
    assert second == first
    assert {path.strip("/") for path in server.asked} <= {"broken", "slow"} and "/broken" in server.asked
    (key,) = [sample.media[0].key for sample in first[0]]
    store.path(key).unlink()
    third = read_all(urls, root, store, OPEN)
    assert third == first and "/fine" in server.asked


def test_a_higher_attempt_asks_again_for_what_gave_no_answer_and_nothing_else(root, tmp_path, server, monkeypatch):
    write(root / "a.csv", [{"url": f"{server.address}/{path}", "caption": "A square."} for path in ("fine", "broken")])

    def run(attempt: int) -> tuple[int, list[str]]:
        server.asked.clear()
        options = {**OPEN, "retries": 0, "attempt": attempt}
        source = {"format": "urls", "path": ".", "modality": "image", "task": "t", "licence": "MIT", "options": options}
        recipe = Recipe.model_validate({"root": str(root), "corpus": "c", "sources": [source], "target": "samples"})
        outcome = curate(recipe, tmp_path / "run", runner="local")
        return outcome.summary["corpora"]["c"]["kept"], [path for path in server.asked if path != "/robots.txt"]

    assert run(1) == (1, ["/fine", "/broken"]) and run(1) == (1, [])
    monkeypatch.setitem(badserver.PAGES, "broken", badserver.PAGES["private"])  # the server is well again
    assert run(1) == (1, []) and run(2) == (2, ["/broken"]) and run(2) == (2, [])


def test_a_download_must_be_what_the_table_says(root, store, server):
    url = f"{server.address}/fine"
    data = png(shade=5)
    right = {"sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data).hexdigest(), "width": 8, "height": 8}
    changes: list[dict[str, Any]] = [{}, {"sha256": "0" * 64}, {"md5": "0" * 32}, {"width": 9}, {"height": 4}]
    write(root / "a.csv", [{"url": url, "caption": "x", "license": "CC0", **right, **change} for change in changes])
    (sample,), bad = read_all(urls, root, store, OPEN)
    assert sample.licence == "CC0" and sample.origin == "a.csv:2"
    assert [record.field for record in bad] == ["sha256", "md5", "width", "height"]
    assert all("the image has changed" in record.reason for record in bad)


def test_nothing_on_a_private_network_is_asked_unless_the_recipe_says_so(root, store, server):
    port = server.server_address[1]
    hosts = (
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "2130706433",
        "10.0.0.1",
        "169.254.169.254",
    )
    write(root / "a.csv", [{"url": f"http://{host}:{port}/fine", "caption": "x"} for host in hosts])
    good, bad = read_all(urls, root, store, {**QUICK, "retries": 0})
    assert good == [] and len(bad) == len(hosts) and server.asked == []
    told = sum("is not public" in record.reason for record in bad)
    assert told >= len(hosts) - 1, bad  # a machine may not resolve a bare number


def test_a_redirect_into_the_private_network_is_refused(root, store, server, monkeypatch):
    """The two loopback servers stand for one on the open network and one within."""
    inner = BadServer("127.0.0.2")
    monkeypatch.setattr(fetch, "is_public", lambda address: address == "127.0.0.1")
    write(root / "a.csv", [{"url": f"{server.address}/away?{inner.address}/private", "caption": "x"}])
    try:
        good, (refused,) = read_all(urls, root, store, QUICK)
        assert good == [] and "127.0.0.2, which is not public" in refused.reason and inner.asked == []
    finally:
        inner.close()


def test_a_name_that_changes_its_address_gains_nothing(root, store, server, monkeypatch):
    """DNS rebinding: the address that was checked is the one that is asked, however the name resolves later."""
    inner = BadServer("127.0.0.2")
    answers = iter(["127.0.0.1", "127.0.0.1"])
    real = socket.getaddrinfo
    port = server.server_address[1]

    def resolve(host: str, *rest: Any, **more: Any) -> Any:
        return real(next(answers, "127.0.0.2") if host == "rebind.test" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(fetch, "is_public", lambda address: address == "127.0.0.1")
    rows = [{"url": f"http://rebind.test:{port}/{path}", "caption": "x"} for path in ("fine", "private")]
    write(root / "a.csv", rows)
    try:
        good, bad = read_all(urls, root, store, {**QUICK, "workers": 1})
        assert [store.read(s.media[0].key) for s in good] == [png(shade=5)]
        assert len(bad) == 1 and "not public" in bad[0].reason
        assert inner.asked == [] and set(server.hosts) == {f"rebind.test:{port}"}
    finally:
        inner.close()


@pytest.mark.parametrize(("robots", "allowed"), [((500, b""), False), ((404, b""), True), ((200, b""), True)])
def test_an_unreachable_robots_txt_means_no(robots, allowed, root, store, server):
    server.robots = robots
    write(root / "a.csv", [{"url": f"{server.address}/fine", "caption": "x"}] * 2)
    good, bad = read_all(urls, root, store, OPEN)
    assert len(good) == (2 if allowed else 0)
    assert all("robots.txt cannot be read: status 500" in record.reason for record in bad)


def test_requests_to_one_host_keep_their_distance():
    waits: list[float] = []
    server = BadServer()
    server.robots = (200, b"User-agent: keyeforge\nCrawl-delay: 7\n")
    fetcher = fetch.Fetcher(fetch.Manners(allow_private=True, host_seconds=2.0), waits.append)
    for _ in range(3):
        fetcher.fetch(f"{server.address}/fine")
    server.close()
    assert len(waits) == 3 and waits[0] <= 2.0 and 2.0 < waits[1] <= 9.0 and 9.0 < waits[2] <= 16.0


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.csv", b"", "empty file"),
        ("a.csv", b"url,words\n", "header lacks caption or TEXT"),
        ("a.tsv", b"url\tcaption\n", "holds no row"),
        ("a.csv", b"url,caption\nhttp://x,caf\xe9\n", "not UTF-8"),
        ("a.parquet", b"", "cannot be read"),
        ("a.parquet", b"PAR1 and more", "cannot be read"),
    ],
)
def test_damaged_tables(name, data, reason, root, store):
    (root / name).write_bytes(data)
    good, bad = read_all(urls, root, store, QUICK)
    assert good == [] and len(bad) == 1 and reason in bad[0].reason


def test_public_addresses():
    private = "127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 255.255.255.255"
    private6 = "::1 :: fe80::1 fe80::1%eth0 fc00::1 ff02::1 ::ffff:10.0.0.1 64:ff9b::7f00:1 2002:7f00:1:: 2001:db8::1"
    assert not any(fetch.is_public(address) for address in f"{private} {private6}".split())
    assert all(fetch.is_public(address) for address in ("8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"))


@given(st.text(max_size=60))
def test_any_address_is_split_or_refused(text):
    for url in (text, f"http://{text}", f"https://example.org/{text}"):
        try:
            parts = fetch.split(url)
        except fetch.FetchError as error:
            assert error.field == "url"
        else:
            assert parts.hostname and parts.geturl().isascii()


def test_interrupting_a_run_keeps_what_was_downloaded(root, tmp_path, server):
    store = MediaStore(tmp_path / "store")
    write(root / "a.csv", [{"url": f"{server.address}/fine/{'x' * n}", "caption": "x"} for n in range(40)])
    source_options = {**OPEN, "workers": 2}
    unit = urls.units(root, source_options)[0]
    running = urls.read(root, unit, "corpus", source_for(urls, source_options), store)
    next(running)
    running.close()
    before = set(server.asked)
    server.asked.clear()
    good, bad = read_all(urls, root, store, source_options)
    assert len(good) == 40 and bad == [] and not before & set(server.asked) - {"/robots.txt"}
