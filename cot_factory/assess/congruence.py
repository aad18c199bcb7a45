"""Congruences of whole numbers that a step writes out: "3^5 mod 11 = 1", "2^10 ≡ 1 (mod 11)"."""

import ast
import itertools
import re
from collections.abc import Iterator

from cot_factory.assess.arithmetic import MOST_CHARACTERS, plain
from cot_factory.record import Finding

MOST_EXPONENT = 10**18
# `plain` writes a sign of multiplication before a bracket that follows a number.
_MOD = re.compile(r"\*?(\()?\s*\\?[pb]?mod(?:ulo)?\b\s*\{?\s*(\d{1,9})\b\s*\}?(?(1)\s*\))", re.IGNORECASE)
_CLAUSE = re.compile(r"[\n;,:]|\b(?:and|so|since|thus|then|because|that)\b|\.\s")
_SAME = re.compile(r"=|≡|\\equiv")


def findings(step: str) -> Iterator[Finding]:
    """One finding for each two neighbouring sides of numbers alone in a clause that names one modulus."""
    for clause in _CLAUSE.split(plain(step)):
        named = {found[2] for found in _MOD.finditer(clause)}
        modulus = int(named.pop()) if len(named) == 1 else 0
        sides = [_MOD.sub(" ", side).strip(" .") for side in _SAME.split(clause)] if modulus else []
        for left, right in itertools.pairwise(sides):
            one, two = remainder(left, modulus), remainder(right, modulus)
            if one is not None and two is not None:
                why = f"{left} = {right} mod {modulus}" + (
                    "" if one == two else f", but the remainders are {one}, {two}"
                )
                yield Finding("congruence", one == two, why, severe=one != two)


def remainder(expression: str, modulus: int) -> int | None:
    """The expression modulo `modulus` without ever holding more than its digits; None of what is no whole number's."""
    if len(expression) > MOST_CHARACTERS:
        return None
    try:
        return _remainder(ast.parse(expression.strip(), mode="eval").body, modulus)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _remainder(node: ast.expr, modulus: int) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value % modulus
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_remainder(node.operand, modulus) % modulus
    if isinstance(node, ast.BinOp):
        one = _remainder(node.left, modulus)
        if isinstance(node.op, ast.Pow):
            return pow(one, _exponent(node.right), modulus)
        two = _remainder(node.right, modulus)
        if isinstance(node.op, ast.Add | ast.Sub | ast.Mult):
            added = one + two if isinstance(node.op, ast.Add) else one - two
            return (one * two if isinstance(node.op, ast.Mult) else added) % modulus
    raise ValueError("no whole number's arithmetic")


def _exponent(node: ast.expr) -> int:
    """A whole number as it stands: exponents are not taken modulo anything."""
    if isinstance(node, ast.Constant) and type(node.value) is int and 0 <= node.value <= MOST_EXPONENT:
        return node.value
    raise ValueError("an exponent that is not computed")
