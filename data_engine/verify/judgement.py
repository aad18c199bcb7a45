"""What a verifier says of an answer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Judgement:
    """`right`; the measure it rests on as a `score` from 0 to 1 (an IoU, a similarity; else 0 or 1); a line of why."""

    right: bool
    score: float
    why: str
