"""CHAMP (champ-dataset 1.0.0, MIT): 540 responses of four models, each with its first wrong step marked by people.

A response is marked "no mistake" or with the span of its first wrong step. The package has no labels of answers: only
the true answer of each problem, and each response's one-sentence summary. `answers.json` holds such labels, read
from summary and true answer; they judge, and nothing is fitted to those of the held-out third.
"""

import hashlib
import json
import math
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cot_factory.assess.arithmetic import plain, value
from cot_factory.assess.steps import split
from data_engine.verify.check import judge_answer
from data_engine.verify.truth import Formula

LABELS = Path(__file__).with_name("answers.json")
OTHERS = ("0-Shot", "5-Shot", "No C w/o H", "Direct C w/ H")
"""The prompts whose responses, of all four models, make up a problem's pass rate: 16 of the 72 there are."""
_NO = re.compile(r"\b(?:no|not|never|cannot|can't|none|neither|diverges|undefined)\b", re.IGNORECASE)
_UNSURE = re.compile(
    r"(?i)\b(?:not possible to determine|cannot be (?:determined|easily)|can't definitively|without (?:further|calc))|"
    r"(?:further|complex) (?:analysis|information)|straightforward"
)
_COUNT = re.compile(
    r"(?i)\b(?:are|has|have|all|all the first|occurs|requires?|at (?:most|least)|need|are at (?:most|least))\s+"
    r"(-?\d[\d,]*(?!\s*(?:,|and|or)\s*\d)|one|two|three|four|five|n)\b"
)
_SURE = re.compile(r"^\s*(yes|no)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Response:
    """`wrong`: the place of its first wrong step, from 0; None where people found no mistake."""

    key: str
    problem: str
    author: str
    question: str
    truth: str
    text: str
    summary: str
    spans: tuple[tuple[int, int], ...]
    wrong: int | None
    held_out: bool


def held_out(problem: str, seed: int = 0) -> bool:
    """A third of the problems, by the hash of their names."""
    return int(hashlib.sha256(f"{seed} {problem}".encode()).hexdigest(), 16) % 3 == 0


def problems() -> dict[str, Any]:
    """The dataset's JSON, from the wheel that pip brings (not installed: it asks for what it does not need here)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", folder, "champ-dataset==1.0.0"]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            found: dict[str, Any] = json.loads(wheel.read("champ_dataset/dataset_files/v0.json"))["problems"]
    return found


def responses(data: dict[str, Any]) -> list[Response]:
    return [one for name, problem in data.items() for one in _of(name, problem)]


def _of(name: str, problem: dict[str, Any]) -> Iterator[Response]:
    for key, marked in problem["fws_annotations"].items():
        spans = tuple(split(marked["text"]))
        at = marked["start_idx"]
        # The step in which the marked span begins; spans are sentences, steps are often paragraphs.
        wrong = None if at is None else max(k for k, (start, _) in enumerate(spans) if k == 0 or start <= at)
        said = _said(problem["conversations"][key])
        yield Response(
            f"{name}|{key}", name, marked["author"], problem["_text"], problem["_answer"], marked["text"],
            said, spans, wrong, held_out(name),
        )  # fmt: skip


def _said(conversation: dict[str, Any]) -> str:
    """The summary in one sentence; where a response ran out of room, its last line."""
    texts = [one["text"] for one in conversation["messages"] if one["role"].startswith("Model") and one["text"]]
    return texts[-1].strip().splitlines()[-1] if texts else ""


def others(problem: dict[str, Any]) -> list[tuple[str, str]]:
    """(key, summary) of the responses that the pass rate counts."""
    known = problem["conversations"]
    return [(key, _said(known[key])) for key in known if key.split("|")[1] in OTHERS]


def truths(answer: str) -> list[str]:
    """The ways in which the dataset tells an answer: "252" beside "C(10, 5)"; "0" of "0 is the only possible value"."""
    bare = re.sub(r"\s*\((?:i\.e\.,|none|no such)[^()]*\)$|^At (?:most|least) ", "", answer)
    bare = re.sub(r"^The .*? is (?:equal to )?(?=\S+$)|^The limit exists and is equal to ", "", bare)
    bare = re.sub(
        r" (?:is the only possible value|values|(?:integer-valued )?(?:zeros|roots)|inequalities|times|pairs|number)$",
        "",
        bare,
    )
    return [re.sub(r"^(?:an equivalent form such as|equivalently|approximately)\s+", "", one).strip()
            for one in re.split(r",? or (?=equivalently|approximately|an equivalent)", bare)]  # fmt: skip


def right(answer: str, summary: str) -> bool:
    """Whether a summary gives the dataset's answer: yes or no, that there is none, or a value told last."""
    if not summary or _UNSURE.search(summary):
        return False
    if sure := _SURE.match(answer):
        told = _SURE.match(summary)
        yes = told[1].lower() == "yes" if told else not _NO.search(summary)
        return yes == (sure[1].lower() == "yes")
    if answer.startswith("Infinitely"):
        return bool(re.search(r"\binfinite", summary))
    if _NO.search(answer.partition("(")[0]):
        return bool(_NO.search(summary))
    ways = truths(answer)
    none = ways[0] == "0" and re.search(r"0 [ir]|\((?:i\.e\., )?no", answer)
    if none and re.search(r"\b(?:has|have|are) no\b", summary):
        return True
    return any(_alike(way, one) for way in ways for one in told_values(summary))


def told_values(summary: str) -> list[str]:
    """What a sentence may give as its value: what follows its last "is", its formulas' last sides, its first number."""
    bare = re.sub(r"\\[()\[\]]|\$|\*\*", "", summary).strip().rstrip(".")
    bare = re.sub(r"\(?\\?[pb]?mod\b.*", "", bare) if re.search("≡|\\\\equiv", bare) else bare
    pieces = re.split(r",? (?:which|because|since|when|if|for|achieved|and (?:it|this)|given|where|as) ", bare)
    heads = [piece for piece in pieces if re.search(r"\b(?:is|are|by|equals?|to)\b|=|≡|\\equiv", piece)] or pieces[:1]
    out = [heads[-1], heads[0]]
    ends = [
        re.split(
            r"\b(?:is|are|equals? to|equal to|equals?|given by|by|expression|formula|congruent to|only)\b|=|≡|\\equiv",
            one,
        )[-1]
        for one in out
    ]
    count = _COUNT.search(summary)
    boxed = re.search(r"\\boxed\{(.*)\}", summary)
    found = [boxed[1]] if boxed else [end.strip(" ,:") for end in ends]
    return list(dict.fromkeys([one for one in [*found, *([count[1]] if count else [])] if one]))


def _alike(way: str, said: str) -> bool:
    said = re.sub(r"^(?:to|that) ", "", said)
    words = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "exactly one": "1"}
    said = words.get(said.lower(), re.sub(r"(?<=\d),(?=\d{3}\b)", "", said))
    way = re.sub(r"^(?:[a-z]\(x\)|x=y)=(?=[^=]+$)", "", way)
    if re.sub(r"\s", "", way) == re.sub(r"\s", "", said):
        return True
    if len(said) > 120 or re.search(r"[a-zA-Z]{5,}", re.sub(r"\\[a-zA-Z]+|floor", "", way)):
        return way.lower() in said.lower()
    one, two = value(plain(way)), value(plain(said))
    if one is not None and (two is not None or not re.search(r"[\\√!]|sqrt", said)):
        return two is not None and math.isclose(one, two, rel_tol=1e-9)
    if two is not None or not re.search(r"[\d)=]", said) or not re.search(r"[a-z\\]", said):
        return False  # a number where a formula is asked for, or words
    return judge_answer(Formula(value=way), said).right


def labels() -> dict[str, bool]:
    """Whether the answer of a response is right, by reading."""
    known = json.loads(LABELS.read_text())
    return {**dict.fromkeys(known["right"], True), **dict.fromkeys(known["wrong"], False)}
