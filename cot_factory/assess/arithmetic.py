"""Arithmetic that can be checked: equalities between plain numbers, as a step writes them."""

import ast
import itertools
import math
import operator
import re
from collections.abc import Callable, Iterator

from cot_factory.record import Finding

MOST_CHARACTERS = 200
MOST_POWER = 512.0
MOST_CHOSEN_FROM = 200
_TOLERANCE = 5e-3  # what a step rounds off: "10 / 3 = 3.33"


def _choose(found: re.Match[str]) -> str:
    """A binomial coefficient of numbers as its value; one that is too large to compute as it was."""
    top, below = (int(one) for one in found.groups() if one)
    return f"({math.comb(top, below)}*1)" if top <= MOST_CHOSEN_FROM else found[0]


_TEX = (
    (re.compile(r"\\d?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\sqrt\s*\{([^{}]*)\}"), r"((\1)**0.5)"),
    (re.compile(r"\\d?binom\s*\{(\d+)\}\s*\{(\d+)\}|\bC\s?\((\d+),\s*(\d+)\)"), _choose),
    (re.compile(r"\\(?:times|cdot)"), "*"),
    (re.compile(r"\\div"), "/"),
    (re.compile(r"\\(?:left|right|,|;|!|quad)|\$|\\[()\[\]]"), ""),
    (re.compile(r"[×·⋅∙]"), "*"),
    (re.compile("[÷∕]"), "/"),
    (re.compile("[−–—]"), "-"),
    (re.compile(r"√\s*(\d+(?:\.\d+)?)"), r"(\1**0.5)"),
    (re.compile(r"(?<![\w\\])sqrt\s*\(([^()]*)\)"), r"((\1)**0.5)"),
    (re.compile(r"(?<![\w.!])(\d{1,2})!(?!!)"), lambda found: f"({math.factorial(int(found[1]))}*1)"),
    (re.compile(r"\^\s*\{([^{}]*)\}"), r"**(\1)"),
    (re.compile(r"\^"), "**"),
    (re.compile("²"), "**2"),
    (re.compile("³"), "**3"),
    (re.compile(r"(?<=\d),(?=\d{3}\b)"), ""),
    (re.compile(r"(?<=[\d)])\s*%"), "*0.01"),
    (re.compile(r"(?<=\d)\s*[x]\s*(?=\d)"), "*"),
    (re.compile(r"(?<=[\d)])\s*\(|\)\s*(?=\d)"), lambda found: ")*" if ")" in found[0] else "*("),
)  # fmt: skip
_BULLET = re.compile(r"^\s*[-*]\s+", re.MULTILINE)
_MODULO = re.compile(r"\bmod(?:ulo)?\b|\bchoose\b|\\[pb]?mod\b|≡|\\equiv", re.IGNORECASE)
_SIDE = re.compile(r"[\d.\s+\-*/()]+")
_CALLS = re.compile(r"sqrt|gcd|lcm|max|min|log|ln|exp|sin|cos|tan|floor|ceil|sum|prod|phi|abs")
_EQUALS = re.compile(r"(?<![<>=!≠≈:])=(?!=)|≈|\\approx")
_OPERATIONS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip


def findings(step: str) -> Iterator[Finding]:
    """One finding for each equality of numbers in a step: right, or wrong and by how much."""
    for left, right in equalities(step):
        one, two = value(left), value(right)
        if one is None or two is None:
            continue
        close = math.isclose(one, two, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE * 0.1) and _same_if_whole(one, two)
        yield Finding("arithmetic", close, f"{left} = {right}" + ("" if close else f", but it is {one:.6g}"), not close)


def _same_if_whole(one: float, two: float) -> bool:
    """Whole numbers are the same or not: 1000 = 1001 is no rounding. Floats hold those below 2^53."""
    whole = float(one).is_integer() and float(two).is_integer() and max(abs(one), abs(two)) < 2**53
    return one == two if whole else True


def equalities(step: str) -> Iterator[tuple[str, str]]:
    """Neighbouring sides of each chain of equalities that hold numbers and operations alone, at least one operation
    among the two.
    """
    for line in re.split(r"[\n;]|(?<=[^\d])[.,]\s|[.,]\s(?=\D)|[.,]$", plain(_BULLET.sub("", step))):
        if _MODULO.search(line):
            continue  # equal but for a multiple of something: `congruence` looks at those
        sides = _EQUALS.split(line)
        for left, right in itertools.pairwise(sides):
            one, two = _end(left), _start(right)
            if one and two and (_operates(one) or _operates(two)):
                yield one, two


def plain(text: str) -> str:
    """LaTeX and signs of print as a calculator would write them."""
    for pattern, into in _TEX:
        text = pattern.sub(into, text)
    return text


def _end(side: str) -> str:
    """The expression that a left side ends with; empty where a word or a variable stands in it."""
    found = list(_SIDE.finditer(side))
    if not found or found[-1].end() != len(side):
        return ""
    before = side[: found[-1].start()].rstrip()
    piece = found[-1][0].strip()
    if before and (before[-1].isalpha() or before[-1] in "_}{\\^|!'") and not _starts_anew(before, piece):
        return ""
    return _balanced(piece)


def _starts_anew(before: str, piece: str) -> bool:
    """Whether an expression after words is one of its own: "we get 3 + 4", not "x + 4"."""
    word = re.search(r"(?<!\\)\b[A-Za-z]+$", before)
    return bool(
        word
        and not (piece.startswith("(") and _CALLS.fullmatch(word[0]))
        and len(word[0]) > 1
        and "\\" + word[0] not in before
        and piece[:1] not in "+-*/"
    )


def _start(side: str) -> str:
    found = _SIDE.match(side)
    if not found:
        return ""
    after = side[found.end() :]
    piece = found[0].rstrip()
    if after[:1] and (after[0].isalpha() or after[0] in "_{\\^|!'") and not _words_follow(found[0], after):
        return ""
    return _balanced(piece.strip())


def _words_follow(piece: str, after: str) -> bool:
    """Whether a blank and a word of some length come after, a unit or the sentence going on; "3x" and "3 + x" not."""
    word = re.match(r"[A-Za-z]+", after)
    return bool(piece[-1:].isspace() and piece.strip()[-1:] not in "+-*/(" and word and len(word[0]) > 1)


def _balanced(piece: str) -> str:
    piece = piece.strip(" .,")
    return piece if piece.count("(") == piece.count(")") and re.search(r"\d", piece) else ""


def _operates(piece: str) -> bool:
    return re.search(r"[\d)]\s*[-+*/]", piece) is not None


def value(expression: str) -> float | None:
    """The value of an expression of numbers and operations; None of what is no such, or too large to hold."""
    if len(expression) > MOST_CHARACTERS:
        return None
    try:
        found = _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError, TypeError):
        return None
    return found if math.isfinite(found) else None


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and type(node.value) in {int, float}:
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_value(node.operand))
    if isinstance(node, ast.BinOp):
        one, two = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow):
            if abs(two) > MOST_POWER or (one < 0 and not two.is_integer()):
                raise ValueError("a power that is not computed")
            return float(one**two)
        if type(node.op) in _OPERATIONS:
            return _OPERATIONS[type(node.op)](one, two)
    raise ValueError("no arithmetic")
