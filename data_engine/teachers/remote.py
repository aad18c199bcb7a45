"""One request to an OpenAI-compatible server (`/chat/completions`), and what its reply means."""

import asyncio
import email.utils
import math
import os
import time
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
from yarl import URL

from data_engine.media import MediaError
from data_engine.teachers.pictures import Pictures, data_url
from data_engine.teachers.recipe import Teacher
from data_engine.teachers.request import Image, Request, Token

SHOWN = 200
_PLACE = b"picture-%b" % os.urandom(16).hex().encode()
"""Stands for a picture while the rest of a body is written: its megabytes are copied once, at the end."""
STOPPING = {
    401: "the server refuses the key; check the variable that key_env names",
    402: "the account is out of money",
    403: "the key may not use this model; check key_env and model",
    404: "no such address or model; check url (it should end in /v1) and model",
}
"""Statuses that no other request would fare better with."""
_UNCOUNTED = {"prompt_tokens": None, "completion_tokens": None}
AGAIN = {408, 409, 425, 429}


@dataclass(slots=True)
class Reply:
    """A server's reply, not yet judged by the caller's `parse`."""

    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    tokens: tuple[Token, ...] | None = None
    scores: tuple[float, ...] | None = None


class ReplyError(Exception):
    """No usable reply. `again`: another try may help, after `wait` seconds if the server said so. `stop`: no request
    will fare better. `spent`: (prompt, completion) tokens of a reply that was no use.
    """

    def __init__(
        self, reason: str, detail: str = "", *, again: bool = False, stop: bool = False, wait: float | None = None,
        spent: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        super().__init__(reason)
        self.reason, self.detail = reason, " ".join(detail.split())[:SHOWN]
        self.again, self.stop, self.wait, self.spent = again, stop, wait, spent


class Remote:
    """A teacher behind a server. The session is the caller's."""

    def __init__(self, teacher: Teacher, session: aiohttp.ClientSession, pictures: Pictures | None) -> None:
        self._teacher, self._session, self._pictures = teacher, session, pictures
        self._url = URL(f"{teacher.url.rstrip('/')}/chat/completions")
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if teacher.key_env:
            self._headers["Authorization"] = f"Bearer {os.environ[teacher.key_env]}"
        self._options: dict[str, Any] = {"allow_redirects": False, "proxy": _proxy(teacher.url)}

    async def ask(self, request: Request, seed: int, temperature: float) -> Reply:
        """Sends the request once. Raises ReplyError."""
        body = await self._body(request, seed, temperature)
        try:
            response = await self._session.post(self._url, data=body, headers=self._headers, **self._options)
            content = await response.read()  # to its end, or the connection is closed: it need not be released
        except aiohttp.ClientPayloadError as error:
            raise ReplyError("reply cut off", str(error), again=True) from error
        except aiohttp.ClientConnectorError as error:
            raise ReplyError("unreachable", str(error), again=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ReplyError("connection lost", str(error) or type(error).__name__, again=True) from error
        if response.status != 200:
            raise _refusal(response.status, response.headers.get("Retry-After"), content)
        return read_reply(content, request.logprobs, len(body))

    async def _body(self, request: Request, seed: int, temperature: float) -> bytes:
        messages: list[dict[str, Any]] = [{"role": "system", "content": request.system}] if request.system else []
        shown: list[Image] = []
        for turn in request.turns:
            if len(turn.parts) == 1 and isinstance(turn.parts[0], str):
                messages.append({"role": turn.role, "content": turn.parts[0]})
            else:
                messages.append({"role": turn.role, "content": [_part(part) for part in turn.parts]})
                shown += [part for part in turn.parts if isinstance(part, Image)]
        body = {
            "model": self._teacher.model, "messages": messages, "temperature": temperature, "seed": seed,
            "max_tokens": self._teacher.max_tokens if request.max_tokens is None else request.max_tokens,
        }  # fmt: skip
        written = orjson.dumps(body | {"logprobs": True} if request.logprobs else body)
        if not shown:
            return written
        pieces = written.split(_PLACE)
        for place, image in enumerate(shown):
            pieces[3 * place + 1 : 3 * place + 1] = await self._shown(image)
        return b"".join(pieces)

    async def _shown(self, image: Image) -> tuple[bytes, bytes]:
        """The two parts of a picture's data URL."""
        if self._pictures is None:
            raise ReplyError("no picture", "a picture is to be shown, and `pictures` was not given")
        try:
            near = image.max_side is None and self._pictures.is_near(image)
            return self._open(image) if near else await asyncio.to_thread(self._open, image)
        except (OSError, MediaError, ValueError) as error:
            raise ReplyError("picture cannot be shown", str(error)) from error

    def _open(self, image: Image) -> tuple[bytes, bytes]:
        assert self._pictures
        return data_url(self._pictures.read(image), image.max_side)


def _part(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image_url", "image_url": {"url": _PLACE.decode()}}


def read_reply(content: bytes, logprobs: bool, sent: int) -> Reply:
    """The first choice of a chat completion. A server that counts no tokens is taken to have one for every four bytes.

    Raises ReplyError: malformed or empty replies may come right another time, a refusal by a content filter will not.
    """
    try:
        data = orjson.loads(content)
        choice = data["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason") or ""
        text, usage = message.get("content") or "", data.get("usage") or _UNCOUNTED
        prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
        if prompt is None:
            prompt, completion = sent // 4, len(text.encode()) // 4
        tokens = _tokens(choice.get("logprobs")) if logprobs else None
        if not (type(text) is type(finish) is str and type(prompt) is type(completion) is int):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ReplyError("malformed reply", content[:SHOWN].decode(errors="replace"), again=True) from error
    if finish == "content_filter" or message.get("refusal"):
        said = str(message.get("refusal") or text)
        raise ReplyError("refused by the content filter", said, spent=(prompt, completion))
    if not text or text.isspace():
        said = content[:SHOWN].decode(errors="replace")
        raise ReplyError("empty reply", said, again=True, spent=(prompt, completion))
    return Reply(text, finish, prompt, completion, tokens)


def _tokens(logprobs: Any) -> tuple[Token, ...] | None:
    if not logprobs or not logprobs.get("content"):
        return None
    return tuple(Token(str(item["token"]), float(item["logprob"])) for item in logprobs["content"])


def _refusal(status: int, retry_after: str | None, content: bytes) -> ReplyError:
    said = content[:SHOWN].decode(errors="replace")
    if status in STOPPING or 300 <= status < 400:
        fix = STOPPING.get(status, "the server sends to another address; give that one as url")
        return ReplyError(f"status {status}", f"{fix}; it says: {said}", stop=True)
    again = status in AGAIN or status >= 500
    return ReplyError(f"status {status}", said, again=again, wait=_seconds(retry_after) if again else None)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds or as a date (RFC 9110, section 10.2.3); None for what is neither."""
    if retry_after is None:
        return None
    try:
        wait = float(retry_after)
    except ValueError:
        try:
            wait = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, wait) if math.isfinite(wait) else None


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for this address."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)
