"""Answers in words: exact, a choice, fuzzy, by meaning, read from a picture."""

import re
import unicodedata
from collections.abc import Sequence

from data_engine.verify.extract import conclusions, last_line
from data_engine.verify.judgement import Judgement
from data_engine.verify.truth import Choice, Exact, Fuzzy, Ocr, Semantic

_DRESS = "*_`\"'“”‘’「」$ \t\n"
_LEAD = re.compile(r"^(?:(?:so|thus|hence|therefore|it is|it's|this is|that is|they are)\b,?\s*)+", re.IGNORECASE)


def plain(text: str, case: bool = False) -> str:
    """NFKC, white space folded, without quotes, emphasis and a closing full stop; in lower case unless `case`."""
    said = " ".join(unicodedata.normalize("NFKC", text).split()).strip(_DRESS)
    said = re.sub(r"^\\text(?:bf|rm|it)?\s*\{([^{}]*)\}$", r"\1", said)
    said = said.rstrip(".。!").strip(_DRESS)
    return said if case else said.casefold()


def readings(answer: str) -> Sequence[str]:
    """An answer in words, and the last line of it: where a reply without any mark concludes."""
    return list(dict.fromkeys((answer, last_line(answer))))


def _bare(text: str) -> str:
    """Without the article before it, unless that is all."""
    return re.sub(r"^(?:an?|the)\s+(?=\S)", "", text, flags=re.IGNORECASE)


_UNSURE = re.compile(r"\b(?:not|or|never|nor|neither)\b|n't\b", re.IGNORECASE)
_POLAR = {"yes", "no", "true", "false"}


def _polar(answer: str) -> str | None:
    """The yes or no that an answer begins with, if it says no other: `No, there is none.`"""
    found = [word for word in re.findall(r"[a-z]+", answer.casefold()[:2000]) if word in _POLAR]
    begins = re.match(r"\W*(yes|no|true|false)\b(?!\s+(?:and|or)\b)", answer.casefold())
    return begins[1] if begins and len(set(found)) == 1 else None


def exact(truth: Exact, answer: str) -> Judgement:
    """All of the answer, or its last line, is one of the accepted texts."""
    accepted = {_bare(plain(text, truth.case)) for text in (truth.value, *truth.also)}
    said = {plain(reading, truth.case) for reading in readings(answer)}
    said |= {_LEAD.sub("", text) for text in said}
    said |= {plain(tail, truth.case) for tail in conclusions(last_line(answer))[:1] if not _UNSURE.search(answer)}
    said |= {polar} if (polar := _polar(answer)) and accepted <= _POLAR else set()
    right = bool({_bare(text) for text in said} & accepted)
    return Judgement(
        right, float(right), "the same words" if right else f"{_short(answer)} is not {_short(truth.value)}"
    )


_LETTER = re.compile(r"^\(?\s*([A-Za-z])\s*(?:[).:：、]|\s*[-–]\s|\s+(?=because|since|as\b)|$)\s*(.*)$", re.DOTALL)
_OPTION = re.compile(r"\b(?:option|choice|answer)\s*(?:is\s*)?:?\s*\(?([A-Z])\b", re.IGNORECASE)


def choice(truth: Choice, answer: str) -> Judgement:
    """A letter alone, a letter and its text, or the text; two letters are none."""
    said = [*readings(answer), *(tail for tail in conclusions(last_line(answer)) if len(tail.strip("(). *")) == 1)]
    letters = {letter for reading in said if (letter := _chosen(truth, reading)) is not None}
    if len(letters) != 1:
        return Judgement(False, 0.0, "no single choice")
    letter = letters.pop()
    right = letter == truth.value.upper()
    return Judgement(right, float(right), f"chooses {letter}")


def _chosen(truth: Choice, answer: str) -> str | None:
    texts = {plain(text): letter.upper() for letter, text in truth.options.items()}
    said = plain(answer, case=True)
    if said.casefold() in texts:
        return texts[said.casefold()]
    if found := _LETTER.match(said):
        letter, rest = found[1].upper(), plain(found[2])
        others = {text for text, of in texts.items() if of != letter}
        known = letter in {of.upper() for of in truth.options} if truth.options else letter <= "J"
        return letter if known and rest not in others and not _LETTER.match(found[2]) else None
    named = {letter.upper() for letter in _OPTION.findall(answer)}
    return named.pop() if len(named) == 1 else None


def fuzzy(truth: Fuzzy, answer: str) -> Judgement:
    """Indel similarity (rapidfuzz) of the folded texts."""
    from rapidfuzz.distance import Indel

    accepted = [plain(text) for text in (truth.value, *truth.also)]
    ratio = max(Indel.normalized_similarity(text, plain(said)) for text in accepted for said in readings(answer))
    return Judgement(ratio >= truth.min_ratio, ratio, f"{ratio:.3f} alike, {truth.min_ratio:g} asked for")


def semantic(truth: Semantic, answer: str) -> Judgement:
    """Cosine of the two texts' vectors."""
    from data_engine.models.embedding import embed_texts

    accepted = (truth.value, *truth.also)
    vectors = embed_texts(truth.model, [*accepted, answer])
    cosine = float((vectors[:-1] @ vectors[-1]).max())
    return Judgement(
        cosine >= truth.min_cosine, min(1.0, max(0.0, cosine)), f"cosine {cosine:.3f}, {truth.min_cosine:g} asked for"
    )


_CJK = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
_GAP = re.compile(rf"(?<=[{_CJK}]) | (?=[{_CJK}])")


def read_form(text: str, case: bool, spaces: bool) -> str:
    """Text from a picture as it is compared: NFKC, white space folded, none beside a letter of Chinese and its like."""
    said = _GAP.sub("", " ".join(unicodedata.normalize("NFKC", text).split()))
    said = said if spaces else said.replace(" ", "")
    return said if case else said.casefold()


def ocr(truth: Ocr, answer: str) -> Judgement:
    """The edit distance by the longer text's length; quotes around all of the answer do not count."""
    from rapidfuzz.distance import Levenshtein

    asked = read_form(truth.value, truth.case, truth.spaces)
    said = [read_form(text, truth.case, truth.spaces) for text in _transcripts(answer)]
    distance = min(Levenshtein.normalized_distance(asked, text) for text in said)
    return Judgement(
        distance <= truth.max_distance, 1.0 - distance, f"edit distance {distance:.4f}, {truth.max_distance:g} allowed"
    )


_QUOTES = ('""', "''", "“”", "‘’", "「」", "``")


# `The sign says: EXIT`, `The text reads "EXIT"`; without a colon only what is in quotes.
_TELLS = re.compile(
    r"[^\n\"“'‘「:：]{0,80}?(?:\b(?:reads?|says?|shows?|text|is)|文字|写着)\s*"
    r"(?:[:：]\s*(?P<plain>.+)|(?P<quoted>[\"“'‘「].+))",
    re.DOTALL | re.IGNORECASE,
)


def _transcripts(answer: str) -> list[str]:
    """All of an answer, and what it says that the text is."""
    said = [answer, _unquoted(answer)]
    if found := _TELLS.fullmatch(answer.strip()):
        said.append(_unquoted(found["plain"] or found["quoted"].removesuffix(".")))
    return said


def _unquoted(answer: str) -> str:
    said = answer.strip()
    quoted = len(said) > 2 and any(said[0] == pair[0] and said[-1] == pair[1] for pair in _QUOTES)
    return said[1:-1] if quoted else said


def _short(text: str) -> str:
    said = " ".join(text.split())
    return repr(said if len(said) <= 40 else said[:39] + "…")
