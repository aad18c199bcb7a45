"""Is a reply right? One function for the factory, for rewards and for evaluation; and which answers are one answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data_engine.verify import formula, formula_plain, formula_text, numbers, quantity, regions, spans, words
from data_engine.verify.extract import final_answer
from data_engine.verify.formula import Formulas
from data_engine.verify.judgement import Judgement
from data_engine.verify.truth import Formula, Truth

_JUDGES: Mapping[str, Callable[[Any, str], Judgement]] = {
    "exact": words.exact,
    "choice": words.choice,
    "number": quantity.number,
    "fuzzy": words.fuzzy,
    "semantic": words.semantic,
    "count": quantity.count,
    "box": regions.boxes,
    "point": regions.point,
    "ocr": words.ocr,
    "chart": quantity.chart,
    "span": spans.span,
}


def judge(truth: Truth, reply: str, *, thinking: bool = False, formulas: Formulas | None = None) -> Judgement:
    """A whole reply, held against the truth. Never raises for what a reply may hold.

    `thinking`: the prompt ended with `<think>`, so that a reply without `</think>` is an unfinished thought.
    `formulas`: the pool that compares formulas; by default one for the whole program.
    """
    answer = final_answer(reply, thinking=thinking)
    return Judgement(False, 0.0, "no answer") if answer is None else judge_answer(truth, answer, formulas=formulas)


def judge_answer(truth: Truth, answer: str, *, formulas: Formulas | None = None) -> Judgement:
    """An answer that stands alone, held against the truth."""
    if isinstance(truth, Formula):
        return (formulas.judge if formulas else formula.judge)(
            (truth.value, *truth.also), formula_text.readings(answer)
        )
    return _JUDGES[truth.kind](truth, answer)


def canonical(answer: str) -> str:
    """A key that answers of one meaning share where no algebra is needed: numbers by value and unit, words folded."""
    found = numbers.parse(answer)
    if found is None:
        return words.plain(answer)
    unit = "".join(f" {base}^{power}" for base, power in found.dimensions) or f" {words.plain(found.name)}".rstrip()
    return f"{found.base}{unit}"


def same(one: str, other: str, *, formulas: Formulas | None = None) -> bool:
    """Do two answers say one thing? Canonical keys, then formulas in either order."""
    if canonical(one) == canonical(other):
        return True
    if not (looks_like_formula(one) and looks_like_formula(other)):
        return False
    return (formulas.judge if formulas else formula.judge)(one, other).right


def looks_like_formula(answer: str) -> bool:
    """Is it worth asking algebra? Prose is not."""
    return len(answer) <= formula_plain.LONGEST and any(letter in answer for letter in "\\^=+*/()[]{}_-−√π0123456789")


def groups(answers: Sequence[str], *, formulas: Formulas | None = None) -> list[int]:
    """Of each answer the number of its group of like answers, groups numbered as they first appear (self-consistency:
    Wang et al., arXiv 2203.11171, marginalise over paths by the answer)."""
    found: list[int] = []
    heads: dict[str, int] = {}
    for answer in answers:
        key = canonical(answer)
        if key not in heads:
            like = next((heads[head] for head in heads if same(head, answer, formulas=formulas)), None)
            heads[key] = len(set(heads.values())) if like is None else like
        found.append(heads[key])
    return found
