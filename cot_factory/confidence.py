"""Confidence from log-probabilities, and agreement between paths.

The report stores step-wise and response-level confidence from logits and gives no formula (arXiv 2509.01563, Fig. 6).
Ours: the exponential of the mean log-probability of a span's tokens, its geometric mean probability.
"""

import math
from collections import Counter
from collections.abc import Sequence

from data_engine.teachers.request import Token

Span = tuple[int, int]


def confidence(tokens: Sequence[Token]) -> float:
    """exp(mean log-probability); 0 of no tokens."""
    return math.exp(sum(token.logprob for token in tokens) / len(tokens)) if tokens else 0.0


def of_spans(text: str, tokens: Sequence[Token], spans: Sequence[Span]) -> list[float]:
    """The confidence of each span of the text that the tokens spell. A token belongs to the span in which its first
    letter is; a span without any has that of the whole.
    """
    places, whole = _places(text, tokens), confidence(tokens)
    found: list[float] = []
    for start, end in spans:
        inside = [token for token, place in zip(tokens, places, strict=True) if start <= place < end]
        found.append(confidence(inside) if inside else whole)
    return found


_PARTIAL = "\N{REPLACEMENT CHARACTER}"  # what a token decodes to that is only part of a character
_LOOK_AHEAD = 8


def _places(text: str, tokens: Sequence[Token]) -> list[int]:
    """Where in the text each token begins, blanks aside. One that is part of a character, or a mark that the text
    leaves out, takes no room: the next whole one is looked for a few characters further on.
    """
    at, places = 0, list[int]()
    for token in tokens:
        words = token.text.strip(_PARTIAL)
        place = text.find(words, at, at + len(words) + _LOOK_AHEAD) if words else -1
        places.append(place + len(words) - len(words.lstrip()) if place >= 0 else at)
        at = place + len(words) if place >= 0 else at
    return places


def agreement(answers: Sequence[str]) -> list[float]:
    """For each path the share of the other paths that come to the same answer (in `verify.check.canonical` form). Paths
    without an answer (empty) agree with nobody.
    """
    counts, others = Counter(answers), len(answers) - 1
    return [(counts[answer] - 1) / others if others and answer else 0.0 for answer in answers]
