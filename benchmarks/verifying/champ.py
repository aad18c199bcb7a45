"""The verifier beside people on champ-dataset 1.0.0: final answers of four language models to competition problems.

The set marks the first wrong step of 540 replies and says nothing of final answers. So a reply without a wrong step
counts as right. Of the replies with one, the writers of this file read the final answers of two groups beside the
references: `SEEN` (combinatorics; inequalities up to 35), which the verifier was mended on, as it was on what it missed
of the replies without a wrong step; and `HELD_OUT` (number theory and sequences up to 40), read before it was run
(one label, of Sequence_15, was a slip of the reader and corrected after).
"""

import itertools
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_engine.verify.check import judge
from data_engine.verify.formula import Formulas
from data_engine.verify.truth import Exact, Formula, Truth

# Problem and number of its reply (in the file's order).
RIGHT_THOUGH_FLAWED = {
    *(("Combinatorics_17", n) for n in (0, 1)), ("Combinatorics_31", 0), ("Combinatorics_35", 0), ("Inequality_3", 1),
    ("Inequality_8", 0), ("Inequality_9", 0), ("Inequality_10", 0), ("Inequality_11", 1), ("Inequality_13", 0),
    ("Inequality_14", 1), *(("Inequality_15", n) for n in (0, 1)), *(("Inequality_18", n) for n in (0, 1)),
    ("Inequality_19", 1), ("Inequality_23", 0), *(("Inequality_24", n) for n in (0, 1)), ("Inequality_25", 0),
    ("Inequality_26", 1), ("Inequality_27", 0), ("Inequality_28", 1), ("Inequality_32", 0), ("Number-Theory_1", 1),
    ("Number-Theory_2", 0), ("Number-Theory_12", 0), ("Number-Theory_13", 0), ("Number-Theory_14", 0),
    ("Number-Theory_14", 1), ("Number-Theory_15", 0), ("Number-Theory_16", 0), ("Number-Theory_19", 0),
    ("Number-Theory_24", 0), ("Number-Theory_24", 1), ("Number-Theory_29", 0), ("Number-Theory_35", 0),
    ("Number-Theory_35", 1), ("Number-Theory_38", 0), ("Number-Theory_38", 1), ("Number-Theory_40", 1),
    ("Sequence_1", 0), ("Sequence_1", 1), ("Sequence_3", 0), ("Sequence_3", 1), ("Sequence_4", 0), ("Sequence_10", 0),
    ("Sequence_15", 0),
    ("Sequence_22", 0), ("Sequence_37", 0), ("Sequence_39", 1),
}  # fmt: skip
SEEN = {"Combinatorics": 40, "Inequality": 35}
HELD_OUT = {"Number-Theory": 40, "Sequence": 40}
# Without a marked step, and yet another answer than the reference: n(n+1)(2n+1)/6 - 1.
WRONG_THOUGH_UNMARKED = {("Combinatorics_37", 1)}


@dataclass(frozen=True, slots=True)
class Item:
    """A reply's last message, which sums it up in a sentence; None where the model's context was too short."""

    problem: str
    number: int
    reference: str
    said: str | None
    flawed: bool

    @property
    def right(self) -> bool:
        key = (self.problem, self.number)
        return key in RIGHT_THOUGH_FLAWED if self.flawed else key not in WRONG_THOUGH_UNMARKED

    @property
    def group(self) -> str | None:
        """Which group its label is of; None where it has none."""
        family, _, number = self.problem.rpartition("_")
        if self.flawed and int(number) <= HELD_OUT.get(family, 0):
            return "held out"
        return "seen" if not self.flawed or int(number) <= SEEN.get(family, 0) else None


def items() -> list[Item]:
    """All marked replies, from the wheel on the package index."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch]
        subprocess.run([*command, "champ-dataset==1.0.0"], check=True)
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as archive:
            problems = json.loads(archive.read("champ_dataset/dataset_files/v0.json"))["problems"]
    return [item for name, problem in problems.items() for item in _items(name.removeprefix("P_"), problem)]


def _items(name: str, problem: dict[str, Any]) -> Iterator[Item]:
    for number, (model, mark) in enumerate(problem["fws_annotations"].items()):
        last = problem["conversations"][model]["messages"][-1]
        yield Item(name, number, problem["_answer"], last["text"], mark["start_idx"] is not None)


_ASIDE = re.compile(r"\s*\((?:i\.e\.|none).*$|\s+(?:is the only possible value|values?|inequalities)$")
_ALSO = re.compile(r",? or (?:equivalently|approximately|an equivalent form such as) ")


def truth(reference: str) -> Truth | None:
    """The reference as a truth: a formula, yes or no; None where it is a sentence."""
    forms = _ALSO.split(_ASIDE.sub("", reference))
    if re.fullmatch(r"Yes|No", forms[0]):
        return Exact(value=forms[0])
    prose = [word for word in re.findall(r"[A-Za-z]{2,}", forms[0]) if word not in {"floor", "sqrt", "sum", "log"}]
    return None if prose else Formula(value=forms[0], also=tuple(forms[1:]))


def report() -> None:
    """Prints by group how often the verifier agrees with the labels, and every disagreement."""
    labelled = [item for item in items() if item.group]
    with Formulas(workers=2) as formulas:
        for group, kind in itertools.product(("seen", "held out"), (Formula, Exact)):
            chosen = [item for item in labelled if item.group == group and isinstance(truth(item.reference), kind)]
            _report(f"{group}, {'numbers and formulas' if kind is Formula else 'yes or no'}", chosen, formulas)


def _report(group: str, items: list[Item], formulas: Formulas) -> None:
    counts = {(right, found): 0 for right in (True, False) for found in (True, False)}
    print(f"{group}:")
    for item in items:
        against = truth(item.reference)
        if against is None or item.said is None:
            continue
        found = judge(against, item.said, formulas=formulas)
        counts[item.right, found.right] += 1
        if found.right != item.right:
            print(f"  {item.problem}: {item.reference!r}, label {item.right}, {found.why}: {item.said[-150:]!r}")
    agree, total = counts[True, True] + counts[False, False], sum(counts.values())
    right, wrong = (counts[label, True] + counts[label, False] for label in (True, False))
    print(f"  {total} final answers; {len(items) - total} more replies end without one")
    print(f"  agreement {agree / total:.3f}; right ones accepted {counts[True, True]} of {right}, ", end="")
    print(f"wrong ones refused {counts[False, False]} of {wrong}")
