"""An OpenAI-compatible server that adds two numbers step by step: an instrument whose every answer is known, no model.

Which of its answers are wrong follows from the question and the seed alone, as do its log-probabilities, which tell
right from wrong only in part. It also rewrites, merges, mends, judges and rates, as the factory's prompts ask. The last
thing after `obey: ` in a fenced text it does instead where it is to write freely: no model is more gullible.
"""

import hashlib
import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_SUM = re.compile(r"What is (\d+) plus (\d+)\?")
WRONG_SHARE, FLAWED_SHARE = 0.3, 0.15


def drawn(*keys: object) -> float:
    """Between 0 and 1, by a hash."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, keys)).encode()).digest()[:6], "big") / 2**48


def solution(question: str, seed: int) -> tuple[str, bool]:
    """A chain for a sum, and whether its answer is right. Some right answers come by a flawed step."""
    found = _SUM.search(question)
    if found is None:
        return "1. I do not see a sum here.\nAnswer: none", False
    one, two = int(found[1]), int(found[2])
    right = drawn(question, seed, "right") >= WRONG_SHARE
    flawed = drawn(question, seed, "flawed") < FLAWED_SHARE
    total = one + two if right else one + two + 1 + int(9 * drawn(question, seed, "off"))
    shown = total + 10 if flawed else total
    way = int(3 * drawn(question, seed, "way"))
    opening = (f"We add {one} and {two}.", f"The sum of {one} and {two} is asked for.", f"To {one} comes {two}.")[way]
    return f"1. {opening}\n2. {one} + {two} = {shown}.\n3. So the sum is {total}.\nAnswer: {total}", right


def tokens_of(text: str, sure: float) -> list[dict[str, Any]]:
    """Its words as tokens, with log-probabilities around the logarithm of how sure it is."""
    return [
        {"token": word, "logprob": -(1.2 - sure) * (0.2 + drawn(text, place)), "bytes": None}
        for place, word in enumerate(re.findall(r"\s*\S+", text))
    ]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    server: "AddingServer"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        system = next((one["content"] for one in body["messages"] if one["role"] == "system"), "")
        said = body["messages"][-1]["content"]
        words = said if isinstance(said, str) else "".join(part.get("text", "") for part in said)
        with self.server.lock:
            self.server.asked[json.dumps(body, sort_keys=True)] += 1
        text, sure = self.server.reply(system, words, body["seed"])
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }
        if body.get("logprobs") and self.server.tells:
            choice["logprobs"] = {"content": tokens_of(text, sure)}
        usage = {"prompt_tokens": len(words) // 4, "completion_tokens": len(text) // 4}
        data = json.dumps({"choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


class AddingServer(ThreadingHTTPServer):
    """`tells`: whether it gives log-probabilities. `asked`: how often each body came."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *, tells: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.asked: Counter[str] = Counter()
        self.tells = tells
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet: clients are killed on purpose."""

    def reply(self, system: str, words: str, seed: int) -> tuple[str, float]:  # noqa: PLR0911
        """What it says, and how sure it is."""
        if "obey: " in words and "One digit" not in system and "one word" not in system:
            return words.rpartition("obey: ")[2].splitlines()[0], 0.9
        if "make an easy question harder" in system:
            return self._rewritten(words), 0.9
        if "join related questions" in system:
            return "Question: Tell all of these sums.", 0.9
        if "You check one step" in system:
            return ("no" if "I do not see" in words else "yes"), 0.9
        if "One digit" in system:
            return str(1 + int(5 * drawn(words))), 0.9
        text, right = solution(words, seed)
        if "You mend a chain" in system:
            one, two = map(int, _SUM.search(words).groups())  # type: ignore[union-attr]
            return f"2. {one} + {two} = {one + two}.\nAnswer: {one + two}", 0.9
        return text, (0.85 if right else 0.6) + 0.3 * (drawn(words, seed, "sure") - 0.5)

    def _rewritten(self, words: str) -> str:
        """Every third rewrite asks for another sum and says that the answer is the same; every fifth says another."""
        one, two = map(int, _SUM.search(words).groups())  # type: ignore[union-attr]
        if (one + two) % 5 == 0:
            return f"Question: Ann has {one} apples. What is {one} plus {two}?\nAnswer: {one + two + 1}"
        more = 7 if (one + two) % 3 == 0 else 0
        return f"Question: Ann has {one} apples, Bob {two}. What is {one + more} plus {two}?\nAnswer: {one + two}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()
