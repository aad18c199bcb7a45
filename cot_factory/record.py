"""What the factory and its review queue pass on: questions, chains of steps, findings, review tasks; plain data.

All go to JSON and back (`as_data`, `task_from`): a task in the queue's database and a line of a file are the same.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Tier = Literal["A", "B", "C"]
"""A: answer and process right. B: answer right, process flawed. C: answer wrong, or process badly flawed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says of a step: `check` is its name (`arithmetic`, `consistency`, `facts`, `relevance`,
    `redundancy`, ...), `ok` its verdict (None: it cannot tell), `why` one line for people.
    """

    check: str
    ok: bool | None
    why: str = ""
    severe: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a chain. `confidence`: exp of the mean log-probability of its tokens; None where nobody told."""

    text: str
    confidence: float | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def flawed(self) -> bool:
        return any(finding.ok is False for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Box:
    """A box in pixels of the picture as it is shown: left, top, right, bottom."""

    box: tuple[float, float, float, float]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """A span of a video, in seconds."""

    start: float
    end: float
    label: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture or a video of the media store, by key, with what is marked on it."""

    kind: Literal["image", "video"]
    key: str
    start: float | None = None
    end: float | None = None
    boxes: tuple[Box, ...] = ()
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One chain for people to look at. `steps` is what they edit; `original` the texts of the steps as the teacher
    first wrote them (before a repair), for the diff. `uncertainty` (0 to 1) orders the queue: the most uncertain first.
    `reason` says why it is here, for reports. People are shown neither it nor `gold`, what they should decide where
    that is known: they could tell controls from other tasks.
    """

    id: str
    domain: str
    question: str
    reference: str
    answer: str
    steps: tuple[Step, ...]
    original: tuple[str, ...] = ()
    media: tuple[Shown, ...] = ()
    tier: Tier = "B"
    reason: str = ""
    confidence: float | None = None
    uncertainty: float = 0.5
    gold: Literal["accept", "reject"] | None = None


Action = Literal["accept", "fix", "reject", "skip", "escalate"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What one person made of a task: `steps` and `answer` as they left them (with `fix`), `why` in their own words.
    `seconds`: how long the task was in their hands. `adjudicated`: the decision that holds where people differed.
    """

    task: str
    annotator: str
    action: Action
    steps: tuple[str, ...] = ()
    answer: str = ""
    why: str = ""
    seconds: float = 0.0
    adjudicated: bool = False


def as_data(record: Any) -> dict[str, Any]:
    """Any of the above as plain JSON data."""
    return dataclasses.asdict(record)


def step_from(data: Mapping[str, Any]) -> Step:
    return Step(data["text"], data.get("confidence"), tuple(Finding(**found) for found in data.get("findings") or ()))


def shown_from(data: Mapping[str, Any]) -> Shown:
    boxes = tuple(Box(tuple(box["box"]), box.get("label", "")) for box in data.get("boxes") or ())
    spans = tuple(Span(**span) for span in data.get("spans") or ())
    return Shown(data["kind"], data["key"], data.get("start"), data.get("end"), boxes, spans)


def task_from(data: Mapping[str, Any]) -> Task:
    """A task of its JSON. Raises KeyError or TypeError for what is none."""
    steps = tuple(map(step_from, data["steps"]))
    media = tuple(map(shown_from, data.get("media") or ()))
    return Task(**{**data, "steps": steps, "media": media, "original": tuple(data.get("original") or ())})


def decision_from(data: Mapping[str, Any]) -> Decision:
    """A decision of its JSON. Raises TypeError for what is none."""
    return Decision(**{**data, "steps": tuple(data.get("steps") or ())})
