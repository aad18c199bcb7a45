"""What all tasks share: instances about one medium each, their blank controls, scores, and the files a task leaves."""

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data_engine.clips import Clip
from data_engine.media import write_atomic
from data_engine.sample import Part, user
from eval import stats
from eval.cache import AnswerCache
from eval.extract import closed_answer, open_answer
from eval.runner import Answerer, Question, ask

Progress = Callable[[str, int, int], None]
Row = dict[str, Any]


class TaskError(ValueError):
    """Files of a benchmark that are missing or not what they should be."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One question about one medium (an encoded picture or a clip), with its truth.

    `choices`: all answers there are; empty where any words may be the answer. `blank` is the same medium
    with nothing on it. `cluster` is shared by instances whose errors are not independent.
    """

    id: str
    kind: str
    question: str
    answer: str
    choices: tuple[str, ...]
    media: bytes | Clip
    blank: bytes | Clip
    cluster: str


def question(words: str, media: bytes | Clip) -> Question:
    """The medium, then the words: the form of the training samples."""
    kind: Literal["image", "video"] = "image" if isinstance(media, bytes) else "video"
    return Question((user(Part(kind, media=(0,)), words),), (media,))


def answer_of(said: str, instance: Instance) -> str | None:
    """The answer in what was said by the strict rule of eval.extract; None where there is none."""
    return closed_answer(said, instance.choices) if instance.choices else open_answer(said)


def is_correct(said: str, instance: Instance) -> bool:
    return answer_of(said, instance) == instance.answer


def run(answerer: Answerer, instances: Sequence[Instance], out: Path, title: str, on_progress: Progress) -> list[Row]:
    """Asks every instance, with its medium and with the blank one. Returns a row for each, in order.

    Rows hold id, kind, question, answer, said, said_blank, correct, correct_blank, parsed. Answers are kept in
    `out`/answers.jsonl.
    """
    cache = AnswerCache(out / "answers.jsonl")
    shown = [question(one.question, one.media) for one in instances]
    blank = [question(one.question, one.blank) for one in instances]
    seen = ask(answerer, shown, cache, lambda done, total: on_progress(title, done, total))
    unseen = ask(answerer, blank, cache, lambda done, total: on_progress(f"{title}, blank", done, total))
    return [_row(one, *said) for one, *said in zip(instances, seen, unseen, strict=True)]


def _row(one: Instance, said: str, said_blank: str) -> Row:
    words = {"id": one.id, "kind": one.kind, "question": one.question, "answer": one.answer}
    scores = {"correct": is_correct(said, one), "correct_blank": is_correct(said_blank, one)}
    return {**words, "said": said, "said_blank": said_blank, **scores, "parsed": answer_of(said, one) is not None}


def scores(rows: Sequence[Row], clusters: Sequence[Hashable], chance: Mapping[str, float]) -> dict[str, Any]:
    """What every task's summary holds; `chance` is the share right without looking, per kind of question."""
    hits = [float(row["correct"]) for row in rows]
    return {
        "accuracy": stats.mean(hits),
        "standard_error": stats.clustered_standard_error(hits, clusters),
        "accuracy_blank_images": _mean(rows, "correct_blank"),
        "num_samples": len(rows),
        "unparsed": sum(not row["parsed"] for row in rows),
        "by_kind": {kind: _of_kind([row for row in rows if row["kind"] == kind], chance[kind]) for kind in chance},
    }


def _of_kind(rows: Sequence[Row], chance: float) -> dict[str, float]:
    right, blank = _mean(rows, "correct"), _mean(rows, "correct_blank")
    return {"num": len(rows), "accuracy": right, "blank": blank, "chance": chance}


def _mean(rows: Sequence[Row], key: str) -> float:
    return stats.mean([float(row[key]) for row in rows])


def write(out: Path, rows: Sequence[Row], summary: Mapping[str, Any]) -> None:
    """Leaves predictions.jsonl and, last, summary.json."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(out / "predictions.jsonl", lines.encode())
    write_atomic(out / "summary.json", json.dumps(summary, indent=1).encode())
