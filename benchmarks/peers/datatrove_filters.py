"""datatrove's four text filters: datatrove_filters.py OUT TEXTS.parquet en|zh.

Each filter over all documents, so that every one's verdict on every document is known; then the four as one pipeline,
where a document that one drops is not seen by the next. Words are spaCy's, in Chinese jieba's; sentences those of
spaCy's rules: no model is needed. In Chinese what its own settings can say of it is said: no least length of a word,
Chinese stop words, and for C4, which knows ASCII ends of sentences and words between spaces alone, neither.
"""

import sys

import pyarrow.parquet as pq
from clock import answer, cpu_seconds
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.filters.base_filter import get_filter_result
from datatrove.utils.text import split_into_words

out, source, chinese = sys.argv[1], sys.argv[2], sys.argv[3] == "zh"


def filters():
    language = "cmn" if chinese else "eng"
    words = {"min_avg_word_length": None, "stop_words": list("的是了在和有不我")} if chinese else {}
    lines = {"filter_no_terminal_punct": False, "min_words_per_line": -1} if chinese else {}
    return {
        "gopher_quality": GopherQualityFilter(language=language, **words),
        "gopher_repetition": GopherRepetitionFilter(language=language),
        "fineweb": FineWebQualityFilter(language=language),
        "c4": C4QualityFilter(language=language, **lines),
    }


def documents():
    texts = pq.read_table(source)["text"].to_pylist()
    return [Document(text=text, id=str(place)) for place, text in enumerate(texts)]


for one in filters().values():
    one.filter(Document(text="某些 words. " * 60, id="warm-up"))
start_up = cpu_seconds()
cpu, verdicts = {}, {}
for name, one in filters().items():
    started = cpu_seconds()
    verdicts[name] = [get_filter_result(one.filter(document)) for document in documents()]
    cpu[name] = cpu_seconds() - started
started = cpu_seconds()
kept = iter(documents())
for one in filters().values():
    kept = one.run(kept)
num_kept = sum(1 for _ in kept)
pipeline = cpu_seconds() - started
words = [len(split_into_words(each.text, "cmn" if chinese else "eng")) for each in documents()]
reasons = {name: [None if ok else reason for ok, reason in found] for name, found in verdicts.items()}
answer(out, start_up=start_up, cpu=cpu, pipeline=pipeline, kept=num_kept, words=words, verdicts=reasons)
