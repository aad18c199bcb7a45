"""Polite downloads from addresses that strangers wrote into a table.

Every hop of every request: the host's name is resolved once, each of its addresses must be public, and the
connection goes to the address that was checked (so a name that resolves differently a moment later gains
nothing); robots.txt is asked; one request at a time per host. No proxy is used.
"""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from http.client import HTTPException
from urllib.parse import SplitResult, urljoin, urlsplit
from urllib.robotparser import RobotFileParser

import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError, TimeoutError

from data_engine.sources.common import RecordError
from strict_yaml import Strict

AGENT = "keyeforge"
OPT_OUT = frozenset({"noai", "noimageai", "noindex", "noimageindex"})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
AGAIN = frozenset({429, 500, 502, 503, 504})
MAX_REDIRECTS = 5
MAX_WAIT = 60.0
ROBOTS_BYTES = 500_000
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Manners(Strict):
    """How a run behaves towards the servers it asks.

    `timeout`: seconds to connect and between two pieces of an answer; `deadline`: seconds for one answer.
    `retries`: further attempts after a time-out, a 429 or a server's fault; `backoff`: seconds before the first,
    doubled each time (a server's Retry-After is followed up to a minute). `host_seconds`: from one request to a
    host to the next, at least.
    """

    timeout: float = 10.0
    deadline: float = 60.0
    retries: int = 2
    backoff: float = 1.0
    host_seconds: float = 0.2
    max_bytes: int = 20_000_000
    allow_private: bool = False


class FetchError(RecordError):
    """Why there is no download (field `url`). `lasting`: asking again another day would not help."""

    def __init__(self, reason: str, *, lasting: bool = False) -> None:
        super().__init__("url", reason)
        self.lasting = lasting


class _AgainError(Exception):
    """Worth another attempt, after `wait` seconds if the server said so."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(slots=True)
class _Host:
    """`lock` is held during requests, `robots_lock` while robots.txt is fetched; never the second within the first."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    robots_lock: threading.Lock = field(default_factory=threading.Lock)
    free_at: float = 0.0
    robots: RobotFileParser | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: urllib3.HTTPHeaderDict
    body: bytes


class Fetcher:
    """Downloads for many threads; robots.txt files are remembered as long as it lives."""

    def __init__(self, manners: Manners, wait: Callable[[float], None] = time.sleep) -> None:
        self.manners = manners
        self._wait = wait
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()

    def fetch(self, url: str) -> bytes:
        """The body behind `url`, redirects followed. Raises FetchError with the reason."""
        answer = self._follow(url, self.manners.max_bytes, self._allowed)
        if refusal := opt_out(answer.headers.getlist("x-robots-tag")):
            raise FetchError(f"the server opts out: X-Robots-Tag {refusal}", lasting=True)
        if answer.status != 200:
            raise FetchError(f"status {answer.status}", lasting=400 <= answer.status < 500)
        return answer.body

    def _follow(self, url: str, limit: int, check: Callable[[str, _Host], None]) -> _Answer:
        seen: set[str] = set()
        while url not in seen:
            seen.add(url)
            if len(seen) > MAX_REDIRECTS + 1:
                raise FetchError(f"more than {MAX_REDIRECTS} redirects", lasting=True)
            answer = self._patiently(url, limit, check)
            location = answer.headers.get("location")
            if answer.status not in REDIRECTS or not location:
                return answer
            try:
                url = urljoin(url, location)
            except ValueError as error:
                raise FetchError(f"redirect to no address: {location[:200]!r}", lasting=True) from error
        raise FetchError("redirects run in a circle", lasting=True)

    def _patiently(self, url: str, limit: int, check: Callable[[str, _Host], None]) -> _Answer:
        """One hop, with retries, while no other thread asks the same host."""
        parts = split(url)
        host = self._host(parts)
        check(url, host)
        with host.lock:
            for attempt in range(self.manners.retries + 1):
                self._wait_turn(host)
                try:
                    return self._once(parts, limit)
                except _AgainError as error:
                    if attempt == self.manners.retries:
                        raise FetchError(f"{error} ({attempt + 1} attempts)") from error
                    pause = self.manners.backoff * 2**attempt if error.wait is None else error.wait
                    self._wait(min(pause, MAX_WAIT))
        raise AssertionError("the last attempt returns or raises")

    def _once(self, parts: SplitResult, limit: int) -> _Answer:
        address = resolve(parts, allow_private=self.manners.allow_private)
        pool = _pool(parts, address, self.manners.timeout)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Host": parts.netloc.rpartition("@")[2], "User-Agent": AGENT, "Accept-Encoding": "identity"}
        try:
            response = pool.urlopen(
                "GET", target, headers=headers, redirect=False, retries=False, preload_content=False
            )
            try:
                return self._read(response, limit)
            finally:
                response.close()
        except (TimeoutError, ReadTimeoutError) as error:
            raise _AgainError(f"no answer within {self.manners.timeout:g} s") from error
        except (HTTPError, HTTPException, OSError) as error:
            raise _AgainError(f"connection failed: {_brief(error)}") from error
        except ValueError as error:
            raise FetchError(f"cannot be asked for: {error}", lasting=True) from error
        finally:
            pool.close()

    def _read(self, response: urllib3.BaseHTTPResponse, limit: int) -> _Answer:
        if response.status in AGAIN:
            raise _AgainError(f"status {response.status}", _seconds(response.headers.get("retry-after")))
        until = time.monotonic() + self.manners.deadline
        body = bytearray()
        wanted = response.status == 200
        claimed = response.headers.get("content-length", "")
        if wanted and claimed.isdigit() and int(claimed) > limit:
            raise FetchError(f"{int(claimed):,} bytes; the limit is {limit:,}", lasting=True)
        while wanted and (piece := response.read1(1 << 16, decode_content=False)):
            body += piece
            if len(body) > limit:
                raise FetchError(f"more than {limit:,} bytes", lasting=True)
            if time.monotonic() > until:
                raise _AgainError(f"not done within {self.manners.deadline:g} s")
        if wanted and claimed.isdigit() and len(body) < int(claimed):
            raise _AgainError(f"body cut short: {len(body):,} of {int(claimed):,} bytes")
        return _Answer(response.status, response.headers, bytes(body))

    def _host(self, parts: SplitResult) -> _Host:
        with self._lock:
            return self._hosts.setdefault(f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}", _Host())

    def _wait_turn(self, host: _Host) -> None:
        now = time.monotonic()
        if host.free_at > now:
            self._wait(host.free_at - now)
        delay = host.robots.crawl_delay(AGENT) if host.robots else None
        host.free_at = max(now, host.free_at) + max(self.manners.host_seconds, min(float(delay or 0), MAX_WAIT))

    def _allowed(self, url: str, host: _Host) -> None:
        """Asks the host's robots.txt, once (RFC 9309: absent means all, unreachable means nothing)."""
        with host.robots_lock:
            if host.robots is None and not host.refused:
                self._ask_robots(url, host)
        if host.refused:
            raise FetchError(host.refused)
        assert host.robots is not None
        if not host.robots.can_fetch(AGENT, url):
            raise FetchError("robots.txt disallows it")

    def _ask_robots(self, url: str, host: _Host) -> None:
        try:
            answer = self._follow(urljoin(url, "/robots.txt"), ROBOTS_BYTES, lambda url, host: None)
        except FetchError as error:
            host.refused = f"robots.txt cannot be read: {error}"
            return
        rules = RobotFileParser()
        rules.parse(answer.body.decode("utf-8", errors="replace").splitlines())
        host.robots = rules


@lru_cache(maxsize=4)
def shared(manners: Manners) -> Fetcher:
    """One fetcher per process and manners, so that units share what is known of the hosts."""
    return Fetcher(manners)


def split(url: str) -> SplitResult:
    """An http(s) address with a host, in ASCII. Raises FetchError."""
    try:
        parts = urlsplit(urllib3.util.parse_url(url).url)
        port = parts.port
    except (ValueError, HTTPError) as error:
        raise FetchError(f"no address: {_brief(error)}", lasting=True) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise FetchError(f"not an http address: {url[:200]!r}", lasting=True)
    return parts


def resolve(parts: SplitResult, *, allow_private: bool) -> str:
    """The first of the host's addresses, all of which must be public. Raises FetchError, _AgainError."""
    host = (parts.hostname or "").strip("[]")
    try:
        found = socket.getaddrinfo(host, parts.port or parts.scheme, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _AgainError(f"name {host!r} does not resolve: {_brief(error)}") from error
    addresses = [str(item[4][0]) for item in found]
    if not allow_private and (private := [address for address in addresses if not is_public(address)]):
        raise FetchError(f"{host} is at {private[0]}, which is not public; `allow_private: true` would permit it")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address is reachable for everyone, also where it carries an IPv4 address within it."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def opt_out(tags: list[str]) -> str:
    """The directive of `X-Robots-Tag` headers that refuses use, meant for all or for us; else an empty text."""
    for tag in tags:
        ours = True
        for item in tag.split(","):
            agent, colon, word = item.rpartition(":")
            if colon:  # a name holds for all directives behind it
                ours = agent.strip().lower() in {"*", AGENT}
            if ours and word.strip().lower() in OPT_OUT:
                return word.strip().lower()
    return ""


def _pool(parts: SplitResult, address: str, timeout: float) -> urllib3.HTTPConnectionPool:
    limits = urllib3.Timeout(connect=timeout, read=timeout)
    if parts.scheme == "http":
        return urllib3.HTTPConnectionPool(address, parts.port, timeout=limits)
    name = parts.hostname
    return urllib3.HTTPSConnectionPool(
        address, parts.port, timeout=limits, server_hostname=name, assert_hostname=name, cert_reqs="CERT_REQUIRED"
    )


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after and retry_after.strip().isdigit() else None


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
