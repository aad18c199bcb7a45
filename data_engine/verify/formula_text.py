"""A formula's text in one line of plain LaTeX: without dollar signs, display styles and closing full stops, and what
people type without LaTeX (`x^(n+1)`, `sqrt(2)`, `C(5, 2)`, `π`, `<=`) as LaTeX has it.
"""

import re

from data_engine.verify.extract import conclusions, last_line
from data_engine.verify.quantity import stated

_FUNCTIONS = [
    "pi",
    "sin",
    "cos",
    "tan",
    "cot",
    "sec",
    "csc",
    "arcsin",
    "arccos",
    "arctan",
    "ln",
    "log",
    "exp",
    "max",
    "min",
    "gcd",
    "sum",
    "prod",
    "lim",
]
_DRESS = [
    (r"\\(?:left|right|displaystyle|textstyle|limits)(?![a-zA-Z])", ""), (r"\\[,;:!]|\\ |~|\\quad|\\qquad", " "),
    (r"\{,\}", ""), (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"), (r"\\[dt]binom", r"\\binom"), (r"[−–﹣－]", "-"),
    (r"×", r"\\times "), (r"[·⋅]", r"\\cdot "), (r"÷", "/"), (r"π", r"\\pi "), (r"θ", r"\\theta "), (r"∞", r"\\infty "),
    (r"≤|<=|⩽", r"\\leq "), (r"≥|>=|⩾", r"\\geq "), (r"≠|!=", r"\\neq "), (r"√(\d+|[a-zA-Z])", r"\\sqrt{\1}"),
    (r"√(?=\()", "sqrt"), (r"∪", r"\\cup "), (r"∩", r"\\cap "), (r"∈", r"\\in "), (r"°", r"^{\\circ}"), (r"\*\*", "^"),
    (r"(?<=[\w)])\s*\*\s*(?=[\w(\\])", r" \\cdot "), (r"\\varnothing|∅", r"\\emptyset"), (r"\^\s*\\circ", r"^{\\circ}"),
    (r"²", "^2"), (r"³", "^3"),
    (rf"(?<![\\a-zA-Z])({'|'.join(_FUNCTIONS)})(?![a-zA-Z])", r"\\\1"),
    (r"(?<![\\a-zA-Z])(?:infinity|inf)(?![a-zA-Z])", r"\\infty"),
    # Whatever integer or real a free letter stands for, the formula is the same.
    (r"[,;]\s*(?:\\text\{[a-z ]*\})?\s*[a-zA-Z]\s*\\in\s*\\math(?:bb|bf)\s*\{?[ZNQRC]\}?(?:\^\+)?$", ""),
]  # fmt: skip
_RULES = [(re.compile(pattern), by) for pattern, by in _DRESS]
_BOX = re.compile(r"^\\(?:boxed|fbox)\s*\{(.*)\}$", re.DOTALL)
_FENCES = (("$$", "$$"), ("$", "$"), ("\\[", "\\]"), ("\\(", "\\)"))
# Typed calls as LaTeX: what stands before the bracket, what the call becomes around its content.
_CALLS = {"^": ("^{", "}"), "_": ("_{", "}"), "sqrt": ("\\sqrt{", "}"), "floor": ("{\\lfloor ", "\\rfloor}")}
_CALLS |= {"ceil": ("{\\lceil ", "\\rceil}"), "abs": ("{|", "|}")}
_CALL = re.compile(r"([\^_]|(?<![\\a-zA-Z])(?:sqrt|floor|ceil|abs|C|binom))\s*\(")


def normal(text: str) -> str:
    """The formula in one line of plain LaTeX. A text that is no UTF-8 (lone surrogates) loses what is none."""
    said = text.encode("utf-8", "ignore").decode().replace("\0", " ").strip()
    before = None
    while said != before:
        before = said
        said = _undressed(said)
    for pattern, by in _RULES:
        said = pattern.sub(by, said)
    return " ".join(_without_calls(said).split())


def _undressed(said: str) -> str:
    """Without closing stops, one pair of dollar signs or one box."""
    said = re.sub(r"(?<!\\)[.。,;]+$", "", said.strip()).strip()
    for opening, closing in _FENCES:
        if len(said) > len(opening) + len(closing) and said.startswith(opening) and said.endswith(closing):
            return said[len(opening) : -len(closing)].strip()
    box = _BOX.match(said)
    return box[1] if box else said


def _without_calls(said: str) -> str:
    """`x^(n+1)` as `x^{n+1}`, `sqrt(2)` as `\\sqrt{2}`, `C(5, 2)` as `\\binom{5}{2}`; what never closes stays."""
    at = 0
    while (call := _CALL.search(said, at)) is not None:
        at = call.end()
        end = _closing(said, at)
        latex = _as_latex(call[1], said[at:end]) if end is not None else None
        if latex is not None and end is not None:
            said, at = said[: call.start()] + latex + said[end + 1 :], call.start() + 1
    return said


def _as_latex(name: str, content: str) -> str | None:
    if name not in {"C", "binom"}:
        opening, closing = _CALLS[name]
        return f"{opening}{content}{closing}"
    parts = content.split(",")
    return f"\\binom{{{parts[0]}}}{{{parts[1]}}}" if len(parts) == 2 else None


def _closing(said: str, start: int) -> int | None:
    """Where the bracket that opens right before `start` closes."""
    depth = 1
    for at in range(start, len(said)):
        depth += {"(": 1, ")": -1}.get(said[at], 0)
        if depth == 0:
            return at
    return None


_WORDS = re.compile(r"(?<![\\\\{a-zA-Z])[a-zA-Z]{2,}")
_NAMES = {"sqrt", "floor", "ceil", "abs", *_FUNCTIONS}
_SPELLED = re.compile(r"\$([^$]+)\$|\\\((.+?)\\\)")


def readings(answer: str) -> list[str]:
    """What may be the formula of an answer, the likeliest first: all of it, its last line, the last formula between
    dollar signs in it, what follows its `is`, the one number that it states.
    """
    line = last_line(answer)
    words = [word for word in _WORDS.findall(line) if word not in _NAMES]
    if len(words) < 2 or len(line) > 2000:
        only = _SPELLED.findall(line[:2000])
        whole = [answer, line] if len(line) < len(answer.strip()) else [line]
        return [*whole, "".join(only[0])] if words and len(only) == 1 else whole
    found = []
    tails = conclusions(line)
    spelled = [_SPELLED.match(said) for said in tails]
    found += ["".join(formula.groups(default="")) for formula in spelled if formula]
    if not tails and len(only := _SPELLED.findall(line)) == 1:
        found.append("".join(only[0]))
    found += [said for said in tails if len(_WORDS.findall(said)) < 3]
    number = stated(answer)
    if number is not None and number.unit is None and re.search(r"\d", line):
        found.append(str(number.value))
    return list(dict.fromkeys(found))[:6] or [line]
