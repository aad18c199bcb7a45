"""Answers once given: keyed by the weights, the prompt's ids and the pictures' pixels, so nothing stale fits."""

import json
from pathlib import Path

import xxhash

from model.processing import Encoded


def key_of(weights: str, encoded: Encoded) -> str:
    """Equal exactly when the same model sees the same ids and the same patches on the same grids."""
    digest = xxhash.xxh3_128(weights.encode())
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
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    self.answers |= json.loads(line)
                except json.JSONDecodeError:
                    continue  # the last line of a killed run
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, found: dict[str, str]) -> None:
        self.answers |= found
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps({key: said}, ensure_ascii=False) + "\n" for key, said in found.items()))
