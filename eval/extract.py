"""From what a model says to an answer, or to nothing: never a guess."""

from collections.abc import Collection


def closed_answer(said: str, allowed: Collection[str]) -> str | None:
    """The allowed answer that `said` is, apart from case, white space and a closing full stop; else None."""
    word = said.strip().rstrip(".").strip().casefold()
    return word if word in allowed else None
