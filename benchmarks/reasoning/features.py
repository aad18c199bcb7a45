"""Features of CHAMP's responses and of their steps: what rules find, how they are written, what a small model says."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.reasoning.data import Response
from benchmarks.reasoning.judge import Said
from cot_factory.assess.fitted import Array
from cot_factory.assess.process import assess_process
from cot_factory.record import Step

HEDGES = re.compile(
    r"\b(?:assum\w+|approximat\w+|seems?|guess\w*|likely|pattern|observ\w+|for example|trial|in general|however|"
    r"numerical\w*|further|complex|difficult|we can see|clear\w*|obvious\w*)\b",
    re.IGNORECASE,
)  # fmt: skip
CLAIMS = re.compile(
    r"\b(?:therefore|thus|hence|so|implies|means|since|because|must|only|always|never)\b", re.IGNORECASE
)
SETS_UP = re.compile(
    r"\b(?:let|given|we need|need to|we can use|first|consider|recall|hint|problem|find)\b", re.IGNORECASE
)
EQUALS = re.compile(r"[=<>≤≥≡]|\\(?:equiv|leq?|geq?)\b")
RULES = ("arithmetic", "congruence", "relevance", "redundancy", "support")

CHAIN_RULES = ("wrong answer", *RULES)
CHAIN_WORDS = ("log characters", "steps", "hedges a step", "claims a step")
CHAIN_OTHERS = ("others wrong", "others wrong x right answer")
CHAIN_AUTHOR = ("PaLM 2 Medium", "GPT-3.5", "GPT-4", "GPT-4 Turbo")
CHAIN_JUDGE = ("mean surprisal", "top surprisal", "mean yes", "least yes")

STEP_RULES = ("place", "log place", "first", "last", "rule", "log characters", "of question")
STEP_WORDS = ("hedges", "claims", "sets up", "equalities")
STEP_JUDGE = ("mean surprisal", "top surprisal", "yes", "yes less mean")


def ruled(one: Response) -> tuple[Step, ...]:
    """The steps with what the rules find. The answer is not told: what `support` needs stands in the last step."""
    steps = [Step(one.text[start:end]) for start, end in one.spans]
    return assess_process(one.question, steps, "")


def of_chain(
    one: Response, steps: Sequence[Step], right: bool, others_right: float, said: Said | None
) -> dict[str, float]:
    texts = [step.text for step in steps]
    found = [finding.check for step in steps for finding in step.findings if finding.ok is False]
    out = {name: float(min(2, found.count(name))) for name in RULES}
    out |= {
        "wrong answer": float(not right),
        "log characters": math.log(len(one.text)),
        "steps": math.log(len(steps)),
        "hedges a step": len(HEDGES.findall(one.text)) / len(texts),
        "claims a step": len(CLAIMS.findall(one.text)) / len(texts),
        "others wrong": 1 - others_right,
        "others wrong x right answer": (1 - others_right) * right,
    }
    out |= {author: float(one.author == author) for author in CHAIN_AUTHOR}
    if said:
        means = [float(np.mean(tokens)) for tokens in said.surprisals]
        out |= {
            "mean surprisal": float(np.mean([token for tokens in said.surprisals for token in tokens])),
            "top surprisal": max(means),
            "mean yes": float(np.mean(said.yes)),
            "least yes": min(said.yes),
        }
    return out


def of_steps(one: Response, steps: Sequence[Step], said: Said | None) -> list[dict[str, float]]:
    asked = set(re.findall(r"\w+", one.question.lower()))
    rows = []
    for k, step in enumerate(steps):
        words = re.findall(r"\w+", step.text.lower())
        row = {
            "place": k / len(steps),
            "log place": math.log1p(k),
            "first": float(k == 0),
            "last": float(k == len(steps) - 1),
            "rule": float(
                any(finding.ok is False and finding.check in {"arithmetic", "congruence"} for finding in step.findings)
            ),
            "log characters": math.log(len(step.text)),
            "of question": sum(word in asked for word in words) / max(1, len(words)),
            "hedges": min(3.0, len(HEDGES.findall(step.text))),
            "claims": min(3.0, len(CLAIMS.findall(step.text))),
            "sets up": float(bool(SETS_UP.search(step.text))),
            "equalities": math.log1p(len(EQUALS.findall(step.text))),
        }
        if said:
            row |= {
                "mean surprisal": float(np.mean(said.surprisals[k])),
                "top surprisal": max(said.surprisals[k]),
                "yes": said.yes[k],
                "yes less mean": said.yes[k] - float(np.mean(said.yes)),
            }
        rows.append(row)
    return rows


def matrix(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> Array:
    """(n, names)."""
    return np.array([[row[name] for name in names] for row in rows], dtype=np.float64)
