"""A web server that misbehaves by path, on a loopback address, and notes what it was asked."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.data_engine.sources.helpers import huge_png, png

Say = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    server: "BadServer"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        with self.server.lock:
            self.server.asked.append(self.path)
            self.server.hosts.append(self.headers["Host"])
        self.close_connection = True
        if path == "/robots.txt":
            self.say(*self.server.robots)
        else:
            PAGES.get(path.strip("/").partition("/")[0], missing)(self)

    def say(self, status: int, body: bytes = b"", **headers: Any) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": len(body), "Connection": "close", **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def go(self, location: str, status: int = 302) -> None:
        self.say(status, Location=location)

    def log_message(self, *words: Any) -> None:
        """Quiet."""


class BadServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: str = "127.0.0.1") -> None:
        super().__init__((address, 0), Handler)
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.asked: list[str] = []
        self.hosts: list[str] = []
        self.robots: tuple[int, bytes] = (404, b"")
        self.address = f"http://{address}:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet: clients hang up on purpose."""

    def close(self) -> None:
        self.done.set()
        self.shutdown()
        self.server_close()


def missing(handler: Handler) -> None:
    handler.say(404, b"<html>not here</html>")


def slow(handler: Handler) -> None:
    """Says nothing until the test is over."""
    handler.server.done.wait(30)


def drip(handler: Handler) -> None:
    """Sends a byte whenever it can, for ever, so that no time-out between two pieces helps."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while not handler.server.done.wait(0.01):
        handler.wfile.write(b"x")
        handler.wfile.flush()


def busy(handler: Handler) -> None:
    """Too many requests at first."""
    first = handler.server.asked.count(handler.path) == 1
    handler.say(429, Retry_After="0") if first else handler.say(200, png(shade=1))


def short(handler: Handler) -> None:
    handler.say(200, png()[:40], Content_Length=len(png()))


def huge(handler: Handler) -> None:
    """More than it says, in pieces, without a length."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(bytes(10_000))


PAGES: dict[str, Say] = {
    "fine": lambda h: h.say(200, png(shade=len(h.path)), Content_Type="image/png"),
    "wrongtype": lambda h: h.say(200, png(shade=2), Content_Type="text/html"),
    "html": lambda h: h.say(200, b"<html>hello</html>", Content_Type="image/png"),
    "empty": lambda h: h.say(200, b"", Content_Type="image/png"),
    "gone": lambda h: h.say(410),
    "broken": lambda h: h.say(500),
    "slow": slow,
    "drip": drip,
    "busy": busy,
    "short": short,
    "huge": huge,
    "claims": lambda h: h.say(200, b"", Content_Length=10**9),
    "noai": lambda h: h.say(200, png(), X_Robots_Tag="all, noai"),
    "noimageai": lambda h: h.say(200, png(), X_Robots_Tag="keyeforge: NoImageAI"),
    "otherbot": lambda h: h.say(200, png(shade=3), X_Robots_Tag="otherbot: noai, noindex"),
    "ring": lambda h: h.go("/ring"),
    "stairs": lambda h: h.go(f"/stairs/{len(h.path)}" + "x" * len(h.path)),
    "moved": lambda h: h.go("/fine/moved", 301),
    "away": lambda h: h.go(h.path.partition("?")[2]),
    "private": lambda h: h.say(200, png(shade=4)),
    "robbed": lambda h: h.say(200, png(shade=5)),
    "bomb": lambda h: h.say(200, huge_png()),
}
