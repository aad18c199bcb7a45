"""Step 1, enhancing: easy questions rewritten into ones of several steps, questions about one picture merged into one.

A question that was changed keeps its original's words and id; a rewrite whose answer is another is caught and counted.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
import xxhash

from cot_factory import costs
from cot_factory.asking import Desk, pictures_of
from cot_factory.generate import ask_of
from cot_factory.prompting import prompt
from cot_factory.question import REFUSED, Question, from_table, named, to_table
from cot_factory.recipe import Enhance, Factory, Generate
from cot_factory.verdict import SEPARATOR, answer_judgement
from data_engine.sources.common import joined
from data_engine.teachers.counts import Counts
from data_engine.teachers.request import Answer, Failure, Image, Request
from data_engine.verify.check import canonical
from data_engine.verify.extract import final_answer

MOST_MERGED = 3
_QUESTION = re.compile(r"^\W*question:\s*(.+)$", re.IGNORECASE | re.MULTILINE)
_ANSWER = re.compile(r"^\W*answer:\s*(.+)$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Refused:
    """A question that stays as it was, and why its new form was not taken."""

    question: str
    reason: str
    said: str


def enhance(
    questions: Sequence[Question], spec: Enhance, solving: Generate, desk: Desk
) -> Iterator[Question | Refused]:
    """Every question, as it was or in its new form, and why new forms were refused."""
    groups = _groups(questions, spec.merge)
    merged = {one.id for group in groups for one in group}
    easy = [
        one
        for one in questions
        if one.id not in merged and len(one.text.split()) <= spec.easy_words and _drawn(one.id, "rewrite", spec.rewrite)
    ]
    taken = {one.id for one in easy}
    yield from (one for one in questions if one.id not in merged | taken)
    yield from _rewritten(easy, spec, solving, desk)
    yield from _merged(groups, spec, desk)


def _drawn(name: str, what: str, share: float) -> bool:
    return xxhash.xxh3_64_intdigest(f"{what}/{name}".encode()) < share * 2**64


def _rewritten(easy: Sequence[Question], spec: Enhance, solving: Generate, desk: Desk) -> Iterator[Question | Refused]:
    asked = prompt("rewrite")
    requests = (
        asked.request(
            {"question": one.text, "answer": one.reference, "facts": "\n".join(one.facts)}, _seen(one, solving)
        )
        for one in easy
    )
    tried = list(zip(easy, desk.replies(spec.teachers, requests), strict=True))
    drafts = {old.id: draft for old, reply in tried if isinstance(draft := _draft(old, reply), Question)}
    proven = _solved(list(drafts.values()), spec, solving, desk)
    for old, reply in tried:
        draft = drafts.get(old.id) or _draft(old, reply)
        fault = draft if isinstance(draft, Refused) else proven[draft.id]
        if isinstance(draft, Question) and fault is None:
            yield draft
        else:
            yield old
            yield fault if isinstance(fault, Refused) else Refused(old.id, "?", "")


def _draft(old: Question, reply: Answer | Failure) -> Question | Refused:
    """A teacher's rewrite, if it is another question with the same answer."""
    if isinstance(reply, Failure):
        return Refused(old.id, f"no rewrite: {reply.reason}", reply.detail)
    question, answer = _QUESTION.search(reply.text), _ANSWER.search(reply.text)
    if question is None or answer is None:
        return Refused(old.id, "no rewrite: its two lines are missing", reply.text)
    if not answer_judgement(old.truths, answer[1]).right:
        return Refused(old.id, "the answer changed: by the rewriter's own word", reply.text)
    if question[1].strip().lower() == old.text.lower():
        return Refused(old.id, "nothing was changed", reply.text)
    new = replace(old, text=question[1].strip(), original=old.text, how="rewritten", teacher=reply.teacher)
    return named(replace(new, parents=(*old.parents, old.id)))


def _solved(drafts: Sequence[Question], spec: Enhance, solving: Generate, desk: Desk) -> dict[str, Refused | None]:
    """What is wrong with each rewrite by the answers that teachers come to: the most frequent must be the reference."""
    first = {one.id: int(one.id[:8], 16) % (1 << 30) for one in drafts}
    requests: list[Request] = [
        replace(ask_of(one, solving), seed=first[one.id] + k, together=(first[one.id], spec.checks))
        for one in drafts
        for k in range(spec.checks)
    ]
    replies = desk.replies(spec.teachers, requests)
    proven: dict[str, Refused | None] = {}
    for draft in drafts:
        told = [next(replies) for _ in range(spec.checks)]
        answers = [(final_answer(one.text) or "") for one in told if isinstance(one, Answer)]
        votes = Counter(map(canonical, answers)).most_common(1)
        vote = next((one for one in answers if votes and canonical(one) == votes[0][0]), "")
        judged = answer_judgement(draft.truths, vote)
        proven[draft.id] = (
            None
            if judged.right
            else Refused(
                draft.parents[-1], "the answer changed: by the answers to the rewrite", f"{draft.text} -> {vote}"
            )
        )
    return proven


def _groups(questions: Sequence[Question], share: float) -> list[list[Question]]:
    """Questions about the same picture, two or three at a time."""
    by_picture: dict[tuple[str, ...], list[Question]] = defaultdict(list)
    for one in questions:
        if one.shown and SEPARATOR not in one.reference:  # else its answers could not be told apart
            by_picture[tuple(item.key for item in one.shown)].append(one)
    groups = [members[:MOST_MERGED] for keys, members in by_picture.items() if _drawn("/".join(keys), "merge", share)]
    return [group for group in groups if len(group) > 1]


def _merged(groups: Sequence[Sequence[Question]], spec: Enhance, desk: Desk) -> Iterator[Question | Refused]:
    asked = prompt("merge")
    requests = (asked.request({"questions": "\n".join(one.text for one in group)}) for group in groups)
    for group, reply in zip(groups, desk.replies(spec.teachers, requests), strict=True):
        new = _joint(group, reply)
        if isinstance(new, Refused):
            yield from group
        yield new


def _joint(group: Sequence[Question], reply: Answer | Failure) -> Question | Refused:
    if isinstance(reply, Failure):
        return Refused(group[0].id, f"no merged question: {reply.reason}", reply.detail)
    found = _QUESTION.search(reply.text)
    if found is None:
        return Refused(group[0].id, "no merged question: its line is missing", reply.text)
    told = [one.reference for one in group if len(one.reference) > 3 and one.reference.lower() in found[1].lower()]
    if told:
        return Refused(group[0].id, f"the merged question gives an answer away: {told[0]}", reply.text)
    own = {one.text for one in group}
    form = "Give the answers in their order, separated by semicolons."
    first = group[0]
    return named(
        replace(
            first, text=f"{found[1].strip()} {form}", reference="; ".join(one.reference for one in group),
            truths=tuple(truth for one in group for truth in one.truths), original="\n".join(one.text for one in group),
            facts=tuple(dict.fromkeys(f for one in group for f in one.facts if not any(f.startswith(q) for q in own))),
            licence=joined(*(one.licence for one in group)), attribution=joined(*(one.attribution for one in group)),
            how="merged", teacher=reply.teacher, parents=tuple(one.id for one in group),
        )
    )  # fmt: skip


def _seen(question: Question, solving: Generate) -> tuple[Image, ...]:
    return () if solving.show == "facts" else pictures_of(question)


def enhanced(part: pa.Table, *, recipe: Factory, desk: Desk) -> dict[str, pa.Table]:
    desk = replace(desk, counts=Counts())
    done = list(enhance(from_table(part), recipe.enhance, recipe.generate, desk))
    refused = [asdict(item) for item in done if isinstance(item, Refused)]
    return {
        "questions": to_table(item for item in done if isinstance(item, Question)),
        "refused": pa.Table.from_pylist(refused, schema=REFUSED),
        **costs.table(desk.counts),
    }
