"""Operators on instruction samples: whole turns, media where the text speaks of them, type and difficulty."""

import functools
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_engine import taxonomy
from data_engine.describe import Turns, first_shown, owners
from data_engine.operators.base import Operator, reasons
from data_engine.words import folded


class TurnOrder(Operator):
    """Drops conversations whose turns do not alternate, end on a question, or hold an empty answer."""

    looks_at: ClassVar[tuple[str, ...]] = ("num_turns", "turn_fault")
    max_turns: int = 64

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        turns = Turns(batch["messages"])
        fault = turn_faults(turns)
        return {"num_turns": pc.list_value_length(batch["messages"]), "turn_fault": fault}

    def decide(self, measures: pa.Table) -> pa.Array:
        too_many = reasons((pc.greater(measures["num_turns"], self.max_turns), "too many turns"))
        return pc.coalesce(measures["turn_fault"], too_many)


# What may follow what: a system turn only begins; user and assistant take turns; a document stands alone.
_ORDER = {"start": 0, "system": 1, "user": 2, "assistant": 3, "document": 4}
_MAY_FOLLOW = np.zeros((5, 5), bool)
for _before, _after in (
    ("start", "system"),
    ("start", "user"),
    ("start", "document"),
    ("system", "user"),
    ("user", "assistant"),
    ("assistant", "user"),
):
    _MAY_FOLLOW[_ORDER[_before], _ORDER[_after]] = True


def turn_faults(turns: Turns) -> pa.Array:
    """Per sample what is wrong with the sequence of its turns, null where nothing is."""
    roles = pa.array(list(_ORDER))
    code = pc.index_in(turns.role, value_set=roles).to_numpy(zero_copy_only=False).astype(np.int64)
    first = np.concatenate([[True], turns.row[1:] != turns.row[:-1]])[: len(code)]
    last = np.concatenate([turns.row[1:] != turns.row[:-1], [True]])[: len(code)]
    before = np.where(first, 0, np.concatenate([[0], code[:-1]])[: len(code)])
    out_of_turn = ~_MAY_FOLLOW[before, code]
    unanswered = last & (code < _ORDER["assistant"])
    silent = (code == _ORDER["assistant"]) & (pc.utf8_length(pc.utf8_trim_whitespace(turns.text)).to_numpy() == 0)
    rows = {
        "turns out of order": turns.row[out_of_turn],
        "ends without an answer": turns.row[unanswered],
        "empty answer": turns.row[silent],
    }
    result = pa.nulls(turns.num_rows, pa.string())
    for reason, broken in reversed(rows.items()):
        mask = np.zeros(turns.num_rows, bool)
        mask[broken] = True
        result = pc.if_else(pa.array(mask), reason, result)
    return result


class MediaReference(Operator):
    """Drops samples whose media and their places in the text do not agree: each shown, in order, none missing.

    A medium may be shown again later; the first times are in order.

    Unless `allow_unseen`, also texts that speak of a picture ("in the image", 图中) though none is shown.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("reference_fault", "speaks_of_picture", "num_media")
    allow_unseen: bool = False

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        shown = pc.list_value_length(batch["media"])
        asked = Turns(batch["messages"]).joined(pa.array(["user"]))
        return {
            "reference_fault": reference_faults(batch),
            "speaks_of_picture": pc.match_substring_regex(folded(asked), _PICTURE_WORDS),
            "num_media": shown,
        }

    def decide(self, measures: pa.Table) -> pa.Array:
        unseen = pc.and_(measures["speaks_of_picture"], pc.equal(measures["num_media"], 0))
        blind = reasons((pc.and_(unseen, not self.allow_unseen), "speaks of a picture that is not there"))
        return pc.coalesce(measures["reference_fault"], blind)


_PICTURE_WORDS = (
    r"\b(?:in|from|of) (?:this|the) (?:image|picture|photo|figure|video)\b"
    r"|(?:这张|这幅|此)(?:图|照片)|图中|图片中|视频中"
)


def reference_faults(batch: pa.Table) -> pa.Array:
    """Per sample how its parts' references and its media disagree, null where they agree."""
    parts = batch["messages"].combine_chunks().flatten().field("parts")
    turn_row = owners(batch["messages"])
    part_row = turn_row[owners(parts)]
    references = parts.flatten().field("media")
    row = part_row[owners(references)]
    shown = references.flatten().to_numpy(zero_copy_only=False)
    available = pc.fill_null(pc.list_value_length(batch["media"]), 0).to_numpy(zero_copy_only=False)
    wild = (shown < 0) | (shown >= available[row])
    new = first_shown(row, shown)
    used = np.bincount(row[new][~wild[new]], minlength=len(batch))
    first = np.concatenate([[True], row[new][1:] != row[new][:-1]])[: len(new)]
    jumps = np.where(first, shown[new] != 0, np.diff(shown[new], prepend=0) != 1)
    faults = {
        "reference to a medium that is not there": np.unique(row[wild]),
        "a medium is never shown": np.flatnonzero(used < available),
        "media shown out of order": np.unique(row[new][jumps]),
    }
    result = pa.nulls(len(batch), pa.string())
    for reason, broken in reversed(faults.items()):
        mask = np.zeros(len(batch), bool)
        mask[broken] = True
        result = pc.if_else(pa.array(mask), reason, result)
    return result


class TaskType(Operator):
    """Says of every sample which task it is, as a path (`data_engine.taxonomy`); drops none but those not wanted.

    `topics` is the vocabulary of the last level, a text file of one word a line, common to rare; without it the run
    counts one in its own corpus: up to `num_topics` words that were seen `topic_count` times or more.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("task_type",)
    measured_by: ClassVar[tuple[str, ...]] = ("topics", "num_topics", "topic_count")
    topics: str | None = None
    num_topics: int = Field(default=8000, ge=0)
    topic_count: int = Field(default=5, ge=1)
    unwanted: tuple[str, ...] = ()

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        turns = Turns(batch["messages"])
        question, answer = (turns.joined(pa.array([role])) for role in ("user", "assistant"))
        words = _topics(self.topics)
        topic = words.of(question) if words else pa.array(["other"] * len(batch), pa.string())
        task = pc.fill_null(batch["task"].combine_chunks(), "")
        return {"task_type": taxonomy.task_types(task, question, answer, topic)}

    def decide(self, measures: pa.Table) -> pa.Array:
        rules = [(pc.starts_with(measures["task_type"], path), f"task {path} not wanted") for path in self.unwanted]
        return reasons(*rules) if rules else pa.nulls(len(measures), pa.string())


@functools.lru_cache(maxsize=4)
def _topics(path: str | None) -> taxonomy.Topics | None:
    return taxonomy.Topics(Path(path).read_text(encoding="utf-8").split()) if path else None


class Difficulty(Operator):
    """Drops questions that are too easy: sampled answers nearly all right, and short (Keye-VL-1.5 report, 5.1).

    difficulty = 1 - accuracy * exp(-mean tokens / `scale`), 0 (always right, in few tokens) to 1. The report gives
    the inputs (correctness, response length) but no formula: this one is our choice. Samples without sampled
    answers are kept.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("difficulty", "accuracy", "answer_tokens", "num_trials")
    measured_by: ClassVar[tuple[str, ...]] = ("scale",)
    scale: float = Field(default=512.0, gt=0)
    min_difficulty: float = Field(default=0.2, ge=0, le=1)
    min_trials: int = Field(default=2, ge=1)

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        row, trials = owners(batch["trials"]), batch["trials"].combine_chunks().flatten()
        count = np.bincount(row, minlength=len(batch))
        right, tokens = (
            np.bincount(row, trials.field(name).to_numpy(zero_copy_only=False).astype(float), len(batch))
            for name in ("correct", "tokens")
        )
        none, every = count == 0, np.maximum(count, 1)
        accuracy, length = right / every, tokens / every
        columns = {
            "accuracy": accuracy,
            "answer_tokens": length,
            "difficulty": 1 - accuracy * np.exp(-length / self.scale),
        }
        found = {name: pa.array(values, mask=none) for name, values in columns.items()}
        return {**found, "num_trials": pa.array(count)}

    def decide(self, measures: pa.Table) -> pa.Array:
        easy = pc.less(measures["difficulty"], self.min_difficulty)
        return reasons((pc.and_(easy, pc.greater_equal(measures["num_trials"], self.min_trials)), "too easy"))
