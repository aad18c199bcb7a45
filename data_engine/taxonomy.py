"""Task types as a tree built from the data: task / what is asked / what answers / what it is about.

The idea is TaskGalaxy's (arXiv 2502.09925): a hierarchy wide enough for 70,000 types and more. The first level is
the source's task; the next two are told by rules on the words of question and answer, in English and Chinese; the
last is the most telling word of the question, taken from a vocabulary counted in the corpus itself. A sample that
comes with a path of its own (`math/algebra/…`) keeps it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_engine import tables as data_tables
from data_engine.describe import Turns
from data_engine.words import folded, folded_text, hash_words, mix, tables, text_buffers

# The first that matches names the form. RE2 syntax, over folded text.
QUESTIONS: tuple[tuple[str, str], ...] = (
    ("count", r"how many|count |number of|几[个只张辆条位名件本次]|多少|数一数|计数"),
    ("locate", r"locate|bounding box|point (?:to|at|out)|where in the|coordinates|定位|框出|坐标|指出"),
    ("read", r"read the|transcribe|ocr|what does .* say|text in|识别.*文字|读出|写着"),
    ("choose", r"(?:^|\n)\s*\(?[A-D][.):]|which of the|choose|select|选择|哪一个|下列"),
    (
        "verify",
        r"^(?:is|are|was|were|does|do|did|can|could|has|have|will|should)\b|true or false|是否|是不是|吗[?？]?$|对吗",
    ),
    ("compare", r"compare|difference|more than|larger|比较|区别|不同"),
    ("compute", r"calculate|compute|solve|evaluate|find the value|what is \d|求|计算|解方程"),
    ("prove", r"prove|show that|证明"),
    ("order", r"order|sequence|sort|rearrange|排序|顺序|先后"),
    ("code", r"code|function|program|python|implement|代码|编程|函数"),
    ("translate", r"translat|翻译"),
    ("summarise", r"summar|概括|总结|摘要"),
    ("describe", r"describe|caption|depict|描述|说明图"),
    ("why", r"\bwhy\b|为什么|为何|原因"),
    ("how", r"\bhow\b|怎么|如何|怎样"),
    ("where", r"\bwhere\b|哪里|何处|在哪"),
    ("when", r"\bwhen\b|what time|什么时候|何时"),
    ("who", r"\bwho\b|whose|谁"),
    ("write", r"write|compose|draft|写一|撰写"),
    ("explain", r"explain|解释|讲解"),
    ("what", r"\bwhat\b|\bwhich\b|什么|哪"),
)
ANSWERS: tuple[tuple[str, str], ...] = (
    ("shape", r"<\|(?:box|point|polygon)_start\|>"),
    ("time", r"<\|clip_time_start\|>"),
    ("code", r"```"),
    ("option", r"^\s*\(?[A-H]\)?[.:]?\s*$"),
    ("yes-no", r"^\s*(?:yes|no|true|false|是的?|否|不是|对|错)\s*[.。]?\s*$"),
    ("number", r"^\s*[-+]?[\d.,/]+\s*\S{0,4}\s*$"),
    ("formula", r"\\boxed|\\frac|\$\$"),
    ("list", r"\n\s*(?:[-*•]|\d+[.)、])"),
)
_LENGTHS = ((16, "word"), (60, "phrase"), (300, "sentence"), (1200, "paragraph"))
_WORD = re.compile(r"[a-z]{3,}|[\u4e00-\u9fff]+")


def task_types(task: pa.Array, question: pa.Array, answer: pa.Array, topics: pa.Array) -> pa.Array:
    """The path of each sample, `task/question/answer/topic`; a task that is a path already stays."""
    built = pc.binary_join_element_wise(
        task, first_match(question, QUESTIONS, pa.scalar("other")), answer_form(answer), topics, "/"
    )
    return pc.if_else(pc.match_substring(task, "/"), task, built)


def first_match(text: pa.Array, forms: Sequence[tuple[str, str]], otherwise: pa.Array) -> pa.Array:
    """The name of the first form whose pattern is found in each text, as `words.folded` writes it."""
    text, named = folded(text), otherwise
    for name, pattern in reversed(forms):
        named = pc.if_else(pc.match_substring_regex(text, f"(?i){pattern}"), name, named)
    return named


def answer_form(answer: pa.Array) -> pa.Array:
    """What kind of thing answers: a form that its signs tell, else its length."""
    length = pc.utf8_length(answer)
    by_length = pa.scalar("essay")
    for limit, name in reversed(_LENGTHS):
        by_length = pc.if_else(pc.less_equal(length, limit), name, by_length)
    return first_match(answer, ANSWERS, by_length)


def some_questions(parts: Sequence[Path], most: int = 200_000) -> list[str]:
    """The users' words of about `most` samples, every n-th of all parts."""
    step = max(1, sum(map(data_tables.num_rows, parts)) // most)
    found: list[str] = []
    for part in parts:
        messages = pq.read_table(part, columns=["messages"])["messages"]
        turns = Turns(messages.take(pa.array(range(0, len(messages), step))))
        found += turns.joined(pa.array(["user"])).to_pylist()
    return found


def vocabulary(questions: Iterable[str], size: int, min_count: int) -> list[str]:
    """The words that tell topics apart: seen `min_count` times or more, the commonest hundred and fifty left out."""
    counts: Counter[str] = Counter()
    for question in questions:
        counts.update(set(_terms(question)))
    ranked = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
    return ranked[min(150, len(ranked) // 20) :][:size]


def _terms(text: str) -> list[str]:
    """English words, and pairs of Han characters."""
    found = []
    for run in _WORD.findall(folded_text(text)):
        found += [run] if run[0] < "\u4e00" else [run[i : i + 2] for i in range(len(run) - 1)]
    return found


class Topics:
    """Finds the most telling word of a text: the rarest that the vocabulary knows."""

    def __init__(self, words: Sequence[str]) -> None:
        self.names = pa.array([*words, "other"], pa.string())
        data, offsets = text_buffers(self.names)
        hashes = _term_hashes(data, offsets[:-1], *tables())
        self.order = np.argsort(hashes, kind="stable")
        self.hashes = hashes[self.order]

    def of(self, text: pa.Array) -> pa.Array:
        data, offsets = text_buffers(text)
        return self.names.take(pa.array(_rarest(data, offsets, *tables(), self.hashes, self.order)))


@numba.njit(cache=True)
def _term_hashes(data, offsets, folded, kind):  # type: ignore[no-untyped-def]
    """A word's hash, or that of two characters that are words alone."""
    result = np.zeros(len(offsets) - 1, np.uint64)
    words = np.empty(512, np.uint64)
    for term in range(len(result)):
        count = hash_words(data, offsets[term], min(offsets[term + 1], offsets[term] + 500), folded, kind, words)
        result[term] = words[0] if count == 1 else mix(words[0] * np.uint64(3) + words[1])
    return result


@numba.njit(cache=True)
def _rarest(data, offsets, folded, kind, hashes, order):  # type: ignore[no-untyped-def]
    """Per text the place in the vocabulary of its rarest word (the vocabulary goes from common to rare)."""
    num_texts = len(offsets) - 1
    result = np.full(num_texts, len(hashes), np.int64)
    longest = 1
    for text in range(num_texts):
        longest = max(longest, offsets[text + 1] - offsets[text] + 1)
    words = np.empty(longest, np.uint64)
    for text in range(num_texts):
        count = hash_words(data, offsets[text], offsets[text + 1], folded, kind, words)
        best = -1
        for place in range(2 * count - 1 if count else 0):
            term = (
                words[place // 2] if place % 2 == 0 else mix(words[place // 2] * np.uint64(3) + words[place // 2 + 1])
            )
            at = np.searchsorted(hashes, term)
            if at < len(hashes) and hashes[at] == term:
                best = max(best, order[at])
        if best >= 0:
            result[text] = best
    return result
