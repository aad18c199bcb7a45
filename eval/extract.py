"""From what a model says to an answer, or to nothing: never a guess."""

from collections.abc import Collection


def plain(said: str) -> str:
    """`said` in lower case, white space folded, without a closing full stop."""
    return " ".join(said.casefold().split()).rstrip(".").strip()


def closed_answer(said: str, allowed: Collection[str]) -> str | None:
    """The allowed answer that `said` is, apart from case, white space and a closing full stop; else None."""
    words = plain(said)
    return words if words in allowed else None


def open_answer(said: str) -> str | None:
    """All that was said, apart from case, white space and a closing full stop; None where nothing was."""
    return plain(said) or None
