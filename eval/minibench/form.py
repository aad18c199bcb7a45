"""A form of question: its words, its possible answers, and how a scene with a wanted answer is drawn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from eval.minibench.scene import Scene

Drawn = tuple[Mapping[str, str], list[Scene]]
"""What fills the places in a question's words, and the scene of each frame; a picture is one frame."""


@dataclass(frozen=True, slots=True)
class Form:
    """`words` is a question with places such as `{shape}`. `draw` makes what it asks about have the answer given.

    `is_closed`: the answer is one of `answers`, and of nothing else; else any words may be said.
    """

    words: str
    answers: tuple[str, ...]
    draw: Callable[[Random, str], Drawn]
    is_closed: bool = True
