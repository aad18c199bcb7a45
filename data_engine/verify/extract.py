"""The final answer of a whole reply, or none: thoughts that never end hold no answer."""

import re

from model.thinking import last_boxed

_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
LONGEST_LINE = 2000  # of a sentence that is read for what it concludes
_THOUGHTS = ("analysis", "think")
_EMPHASIS = re.compile(r"\*\*|__(?=\w)|(?<=\w)__|^#+ *", re.MULTILINE)
# "Answer: 5", "the final answer is 5", "the correct option is B", "答案是5". What comes after stands on the same line,
# or on the next where nothing does.
_PHRASE = re.compile(
    r"(?:\b(?:final\s+|correct\s+|best\s+)?(?:answer|option|choice)\b(?:\s+(?:is|are|would\s+be|=)\b\s*:?|\s*[:：=])"
    r"|(?:最终|正确)?(?:答案|选项)(?:应该|应)?(?:是|为|[:：])[:：]?)\s*(\S[^\n]*)",
    re.IGNORECASE,
)
# A sentence ends at a full stop that a new one follows, or nothing; 3.5 and "approx. 3" go on.
_STOP = re.compile(r"[.!](?=\s+[A-Z(*])|。|[.!]\s*$")


def final_answer(reply: str, *, thinking: bool = False) -> str | None:
    """The answer of a reply, without its thoughts; None where there is none.

    What follows the last `</think>` (or `</analysis>`) is read; there the last `<answer>`, in it the last
    `\\boxed{}` with balanced braces, else what the last "answer: ..." or "the answer is ..." says, else all of it.
    A `<think>` that is never closed is thought to the end: only an `<answer>` before it counts. `thinking`: the prompt
    ended with `<think>`, so a reply without `</think>` is thought to the end as well.
    """
    rest, closed = _after_thoughts(reply)
    if thinking and not closed:
        return None
    rest, opened = _before_unfinished(rest)
    answers = _ANSWER.findall(rest)
    if opened and not answers:
        return None
    answer = answers[-1] if answers else rest
    boxed = last_boxed(answer)
    if boxed is not None:
        return boxed.strip() or None
    said = None if answers else _after_phrase(answer)
    return (said or answer).strip() or None


def _after_thoughts(reply: str) -> tuple[str, bool]:
    """What follows the thoughts that are closed, and whether there were any."""
    at = max(reply.rfind(f"</{tag}>") + len(f"</{tag}>") if f"</{tag}>" in reply else 0 for tag in _THOUGHTS)
    return reply[at:], f"</{_THOUGHTS[-1]}>" in reply


def _before_unfinished(text: str) -> tuple[str, bool]:
    """What stands before thoughts that are opened and never closed, and whether there are such."""
    starts = [at for tag in _THOUGHTS if (at := text.find(f"<{tag}>")) >= 0]
    return (text[: min(starts)], True) if starts else (text, False)


def _after_phrase(text: str) -> str | None:
    """What the last phrase that announces an answer says, to the end of its sentence."""
    found = _PHRASE.findall(_EMPHASIS.sub("", text))
    if not found:
        return None
    said: str = found[-1]
    stop = _STOP.search(said)
    return said[: stop.start()] if stop and stop.start() else said


def last_line(answer: str) -> str:
    """The last line that says anything: where the conclusion of an answer without marks stands."""
    return next((line.strip() for line in reversed(answer.splitlines()) if line.strip()), "")


_IS = re.compile(
    r"(?<![\w\\])(?:is|are|was|were|be|has|have|equals?|gives?|becomes?)"
    r"(?:\s+(?:given by|equal to|simply|just|exactly))*(?![\w])\s*:?"
)
# What only says where or why, at the end of a conclusion: "is 2, which occurs when x = 0".
_ASIDE = re.compile(
    r",?\s+(?:when|where|which|who|for|if|as|achieved|attained|obtained|because|since|with|so"
    r"|and\s+(?:this|it|is|occurs)|in\s+(?:the\s+year\s+)?(?:1[5-9]|20)\d\d)\b.*$",
    re.DOTALL,
)
_THE = re.compile(
    r"^(?:the\s+|an?\s+)?(?:closed[- ]form\s+)?(?:expression|formula|value|number|answer)\s*:?\s*", re.IGNORECASE
)
# A clause that says what something in the conclusion is: "is 2n, where n is the number of sides".
_CLAUSE = re.compile(r"\s*(?:where|when|which|who|if|since|because|as|and (?:this|it))\b", re.IGNORECASE)


def conclusions(line: str) -> list[str]:
    """What a sentence may conclude, the last first: what follows each of its `is`, `are`, `equals`, without the asides
    (`when ...`, `which ...`) after it."""
    sentence = _last_sentence(line) if len(line) <= LONGEST_LINE else ""
    found = []
    for at in _IS.finditer(sentence):
        clause = sentence[sentence.rfind(",", 0, at.start()) + 1 : at.start()]
        if clause == sentence[: at.start()] or not _CLAUSE.match(clause):
            found.append(_THE.sub("", _ASIDE.sub("", sentence[at.end() :]).strip()))
    return [said for said in reversed(found) if said][:5]


def _last_sentence(line: str) -> str:
    said = line.strip()
    stop = _STOP.search(said)
    while stop and said[stop.end() :].strip():
        said = said[stop.end() :].strip()
        stop = _STOP.search(said)
    return said
