"""Step 2: K paths a question, each with the confidence of its steps, of its answer and of the whole."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from cot_factory import confidence, costs
from cot_factory.asking import Desk, pictures_of
from cot_factory.assess.steps import split
from cot_factory.prompting import prompt
from cot_factory.question import CHAINS, REFUSED, Question, Row, from_table, steps_text
from cot_factory.recipe import Factory, Generate
from cot_factory.record import Step
from data_engine.teachers.counts import Counts
from data_engine.teachers.errors import TeacherError
from data_engine.teachers.request import Answer, Failure, Request
from data_engine.verify.check import canonical
from data_engine.verify.extract import final_answer


def chains(
    questions: Sequence[Question], spec: Generate, desk: Desk
) -> Iterator[tuple[Question, list[Row], list[Failure]]]:
    """Every question with its paths, of each teacher `spec.paths`, and with what failed. Raises TeacherError where a
    server gives no log-probabilities.
    """
    requests = (request for question in questions for request in _requests(question, spec))
    replies = desk.replies(spec.teachers, requests, "all")
    each = spec.paths * len(desk.named(spec.teachers))
    for question in questions:
        told = [next(replies) for _ in range(each)]
        rows = [_chain(question, reply) for reply in told if isinstance(reply, Answer)]
        shares = confidence.agreement([canonical(row["answer"]) for row in rows])
        found = [row | {"path": k, "agreement": share} for k, (row, share) in enumerate(zip(rows, shares, strict=True))]
        yield question, found, [reply for reply in told if isinstance(reply, Failure)]


def _requests(question: Question, spec: Generate) -> Iterator[Request]:
    """K requests that differ in their seeds: no server needs `n`, and each is kept as it comes."""
    first = int(question.id[:8], 16) % (1 << 30)
    asked = ask_of(question, spec)
    for k in range(spec.paths):
        yield replace(asked, seed=first + k, together=(first, spec.paths))


def ask_of(question: Question, spec: Generate) -> Request:
    """What a teacher is asked of a question: words, and pictures or what is known of them."""
    facts = "" if spec.show == "pictures" else "\n".join(question.facts)
    pictures = () if spec.show == "facts" else pictures_of(question)
    return prompt(spec.prompt).request(
        {"question": question.text, "facts": facts}, pictures,
        logprobs=True, temperature=spec.temperature, max_tokens=spec.max_tokens,
    )  # fmt: skip


def _chain(question: Question, reply: Answer) -> Row:
    if reply.tokens is None:
        raise TeacherError(
            f"teacher {reply.teacher}: its server gives no log-probabilities, and confidence is made of them; serve "
            "the model with one that does (vLLM, the OpenAI API), or name its checkpoint folder"
        )
    spans, answer = split(reply.text), final_answer(reply.text) or ""
    sure = confidence.of_spans(reply.text, reply.tokens, spans)
    steps = [Step(reply.text[a:b].strip(), one) for (a, b), one in zip(spans, sure, strict=True)]
    at = reply.text.rfind(answer) if answer else -1
    last = [(at, at + len(answer))] if at >= 0 else [(0, len(reply.text))]
    return {
        "question": question.id, "teacher": reply.teacher, "model": reply.model, "text": reply.text,
        "steps": steps_text(steps), "answer": answer, "finish": reply.finish, "tokens": reply.completion_tokens,
        "confidence": confidence.confidence(reply.tokens),
        "answer_confidence": confidence.of_spans(reply.text, reply.tokens, last)[0],
    }  # fmt: skip


def generated(part: pa.Table, *, recipe: Factory, desk: Desk) -> dict[str, pa.Table]:
    """Questions to `chains`, and to `refused` what a teacher did not answer."""
    desk = replace(desk, counts=Counts())
    rows: list[Row] = []
    refused: list[Row] = []
    for question, told, failures in chains(from_table(part), recipe.generate, desk):
        rows += told
        refused += [{"question": question.id, "reason": one.reason, "said": one.detail} for one in failures]
    return {
        "chains": pa.Table.from_pylist(rows, schema=CHAINS),
        "refused": pa.Table.from_pylist(refused, schema=REFUSED),
        **costs.table(desk.counts),
    }
