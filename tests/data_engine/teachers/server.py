"""An OpenAI-compatible server that counts what it is asked and fails as it is told: an instrument, not a model.

The last text of a question says what becomes of it: `words | 429 500 ok` is refused, refused again, and then answered.
Its answer is `words` backwards, so that every answer can be told from every other. The last thing after `obey: ` in a
question it says instead: no model is more gullible.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKENS = 10
"""Of every prompt, and of every completion."""


def reversed_words(prompt: str) -> str:
    return prompt.partition(" | ")[0].strip()[::-1]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # a reply in one packet
    server: "CountingServer"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = body["messages"][-1]["content"]
        prompt = content if isinstance(content, str) else next(p["text"] for p in content if p["type"] == "text")
        with self.server.lock:
            self.server.asked[prompt] += 1
            self.server.bodies.append(body)
            self.server.headers.append(dict(self.headers))
            turn = self.server.asked[prompt]
        if "obey: " in prompt:
            self.say(200, completion(prompt.rpartition("obey: ")[2].splitlines()[0]))
        else:
            faults = prompt.partition(" | ")[2].split() or ["ok"]
            FAULTS[faults[min(turn, len(faults)) - 1]](self, prompt)

    def say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


class CountingServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.gate: Callable[[str], None] = lambda prompt: None
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet: clients hang up on purpose."""

    def close(self) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()


def completion(text: Any, finish: str = "stop", **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish, **more}
    usage = {"prompt_tokens": TOKENS, "completion_tokens": TOKENS, "total_tokens": 2 * TOKENS}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def ok(handler: Handler, prompt: str) -> None:
    handler.server.gate(prompt)
    handler.say(200, completion(reversed_words(prompt)))


def cut(handler: Handler, prompt: str) -> None:
    """Half of what it says it sends."""
    body = completion(reversed_words(prompt))
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def reset(handler: Handler, prompt: str) -> None:
    """Hangs up without a word."""
    handler.close_connection = True


FAULTS: dict[str, Callable[[Handler, str], None]] = {
    "ok": ok,
    "cut": cut,
    "reset": reset,
    "slow": lambda h, p: (h.server.over.wait(30), None)[1],
    "429": lambda h, p: h.say(429, b"{}", Retry_After="0"),
    "429-1s": lambda h, p: h.say(429, b"{}", Retry_After="1"),
    "500": lambda h, p: h.say(500, b"boom"),
    "503": lambda h, p: h.say(503, b"<html>starting</html>", Content_Type="text/html"),
    "html": lambda h, p: h.say(200, b"<html>hello</html>", Content_Type="text/html"),
    "empty": lambda h, p: h.say(200, completion("  ")),
    "null": lambda h, p: h.say(200, completion(None)),
    "nothing": lambda h, p: h.say(200, b""),
    "list": lambda h, p: h.say(200, b"[1, 2]"),
    "nochoice": lambda h, p: h.say(200, b'{"choices": []}'),
    "number": lambda h, p: h.say(200, completion(7)),
    "uncounted": lambda h, p: h.say(
        200, json.dumps({"choices": [{"message": {"content": reversed_words(p)}}]}).encode()
    ),
    "filtered": lambda h, p: h.say(200, completion("no", "content_filter")),
    "plain": lambda h, p: h.say(200, completion(reversed_words(p)), Content_Type="text/plain"),
    "400": lambda h, p: h.say(400, b'{"error": "too long"}'),
    "401": lambda h, p: h.say(401, b'{"error": "bad key"}'),
    "404": lambda h, p: h.say(404, b'{"error": "no such model"}'),
    "302": lambda h, p: h.say(302, b"", Location="http://127.0.0.1:1/"),
}
