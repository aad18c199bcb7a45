"""Consistency: a quantity that a chain gave one value, and later gives another without saying why.

Only plain statements count: `the total`, `the number of apples`, that *is* or *equals* a number and nothing more. A
step that lets, supposes, tries, or tells cases apart may give values anew. Letters do not count: in CHAMP's own
solutions they take new values from case to case (4 false alarms, and no true one among the models' chains).
"""

import re
from collections.abc import Iterator, Sequence

from cot_factory.record import Finding

_NUMBER = r"-?\d+(?:\.\d+)?"
_TOTAL = re.compile(
    r"\bthe\s+(?P<name>(?:total|sum|answer|product|difference|result|number of [a-z]+(?: [a-z]+)?))\s+"
    rf"(?:is|equals|=)\s+(?:exactly\s+)?\$?(?P<value>{_NUMBER})\$?(?=\s*(?:$|[.,;!?](?:\s|$)))",
    re.IGNORECASE,
)
_ANEW = re.compile(
    r"\b(?:let|suppose|assume|if|when|where|case|cases|or|either|try|trying|for|consider|taking|setting|set|substitut\w*|"
    r"plug\w*|similarly|mod|modulo|possible|possibilities|could|can|another|other|next|instead|otherwise|now|then|new)\b",
    re.IGNORECASE,
)


def findings(step: str, before: Sequence[str]) -> Iterator[Finding]:
    """One finding for each value that contradicts what a step before said."""
    known = {name: value for text in before for name, value in stated(text)}
    for name, value in stated(step):
        if name in known and known[name] != value:
            yield Finding("consistency", False, f"{name} is {value:g} here and was {known[name]:g} before", True)


def stated(text: str) -> list[tuple[str, float]]:
    """(name, value) of each plain statement; none where the step gives values anew."""
    if _ANEW.search(text):
        return []
    return [(f"the {one['name'].lower()}", float(one["value"])) for one in _TOTAL.finditer(text)]
