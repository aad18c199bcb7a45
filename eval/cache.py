"""Answers once given: keyed by what answers, the prompt's ids and the pictures' pixels, so nothing stale fits."""

import json
from pathlib import Path

import xxhash

from data_engine.media import write_atomic
from model.processing import Encoded


def key_of(answerer: str, encoded: Encoded) -> str:
    """Equal exactly when the same model with the same limit of tokens sees the same ids and the same patches."""
    digest = xxhash.xxh3_128(answerer.encode())
    for array in (encoded.input_ids, encoded.pixel_values, encoded.grid_thw):
        digest.update(str(array.shape).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


class AnswerCache:
    """A JSONL file of answers, appended as they come: what a killed run has answered is not asked again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, str] = {}
        if path.exists():
            *lines, unfinished = path.read_bytes().split(b"\n")
            for line in lines:
                self.answers |= json.loads(line)
            if unfinished:  # a killed run's last line would swallow the next one
                write_atomic(path, b"".join(line + b"\n" for line in lines))
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, found: dict[str, str]) -> None:
        self.answers |= found
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps({key: said}, ensure_ascii=False) + "\n" for key, said in found.items()))
