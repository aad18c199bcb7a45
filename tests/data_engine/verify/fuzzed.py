"""Formulas to break a verifier with: grown from a grammar, with bytes changed, and known nasties."""

import random
from collections.abc import Iterator

_LETTERS = ("x", "y", "n", "a", "b", "\\alpha", "\\pi", "i", "e", "\\theta")
_BINARY = ("+", "-", "\\cdot ", "\\times ", "/", "=", "<", "\\le ", "\\cup ", ",", "^", "\\pm ", " \\text{ or } ", "*")
_CALLS = (
    "\\sqrt{%s}", "\\sqrt[3]{%s}", "\\sin(%s)", "\\ln %s", "\\left(%s\\right)", "|%s|", "\\{%s\\}", "(%s)",
    "[%s)", "%s!",
    "\\lfloor %s\\rfloor", "\\overline{%s}", "\\text{%s}", "%s\\%%", "\\frac{d}{dx}%s", "-%s", "%s^\\circ",
    "\\boxed{%s}",
    "$%s$", "\\int_0^1 %s\\,dx", "\\sum_{k=1}^{n} %s", "\\lim_{x\\to 0} %s", "f(x)=%s", "%s^{-1}", "\\log_2 %s",
)  # fmt: skip
_PAIRS = (
    "\\frac{%s}{%s}",
    "\\binom{%s}{%s}",
    "%s^{%s}",
    "%s_{%s}",
    "(%s,%s)",
    "\\begin{pmatrix}%s\\\\%s\\end{pmatrix}",
)
NASTY = (
    "9^{9^{9^{9^{9}}}}", "9^9^9^9", "9**9**9**9", "2^{10^{10}}", "10^{10^{100}}", "(10^{9})!", "1000000!!!",
    "1/0", "0^0",
    "\\frac{1}{0}", "\\infty-\\infty", "\\sqrt{" * 100 + "2" + "}" * 100, "(" * 400 + "x" + ")" * 400,
    "{" * 900, "}" * 900,
    "\\frac{" * 120, "x^" * 300 + "2", "x" * 100_000, "9" * 100_000, "9" * 990, "\\boxed{" * 14_000,
    "-" * 1000, "\0", "",
    "\ud800", "x\udfff+1", "\u202ex+1", "１２３", "½", "∑∏∫", "\\", "\\\\", "$", "$$$", "%", "#", "&", "~", "^",
    "_", "^^", "__",
    "x^{x^{x^{x^{x^{x}}}}}", "\\sum_{k=1}^{10^{12}} k^{k}", "\\prod_{k=1}^{100000} k",
    "\\int_0^{\\infty} e^{-x^{x^x}} dx",
    "\\lim_{n\\to\\infty}\\sum_{k=1}^{n}\\frac{1}{k^{k}}", "\\binom{10^{9}}{5\\cdot 10^{8}}", "(x+y+z+a+b+c)^{200}",
    "(x+1)^{5000}", "\\sin(\\sin(\\sin(\\sin(10^{100}))))", "123456789^{987654321}", "\\gcd(10^{200}+1,10^{199}+7)",
    "x=" * 200 + "1", "1," * 450 + "1", "\\begin{pmatrix}" + "1&" * 200 + "1\\end{pmatrix}", "\\begin{matrix}" * 30,
    "__import__('os').system('true')", "lambda: 0", "exit()", "';DROP TABLE", "<script>alert(1)</script>", "\r\n\t\v\f",
    "NaN", "inf", "-inf", "True", "None", "1e400", "1e-400", "0x1F", "1_000", "١٢٣", "\u0661", "x\u0338", "\U0001d465",
)  # fmt: skip


def expression(rng: random.Random, depth: int) -> str:
    """A formula of LaTeX's usual commands, at most `depth` levels deep; often no sound one."""
    if depth == 0 or rng.random() < 0.15:
        number = str(rng.randrange(10 ** rng.randint(1, 6)))
        return rng.choice((number, rng.choice(_LETTERS), f"{number}.{rng.randrange(100)}"))
    kind = rng.random()
    if kind < 0.45:
        return f"{expression(rng, depth - 1)}{rng.choice(_BINARY)}{expression(rng, depth - 1)}"
    if kind < 0.75:
        return rng.choice(_CALLS) % expression(rng, depth - 1)
    return rng.choice(_PAIRS) % (expression(rng, depth - 1), expression(rng, depth - 1))


def mutated(rng: random.Random, text: str) -> str:
    """With up to four bytes changed, doubled or dropped; what is then no UTF-8 stays in it as lone surrogates."""
    data = bytearray(text.encode("utf-8", "surrogateescape"))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data)) if data else 0
        data[at : at + rng.randint(0, 1)] = bytes(rng.choices((rng.randrange(256), ord("{"), ord("^"), ord("\\")), k=1))
    return data.decode("utf-8", "surrogateescape")


def pairs(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """(truth, answer), every nasty on either side once and then as many grown as make `count`."""
    rng = random.Random(seed)
    sides = [(nasty, "x+1") for nasty in NASTY] + [("x+1", nasty) for nasty in NASTY]
    yield from rng.sample(sides, min(count, len(sides)))
    for _ in range(count - len(sides)):
        one = expression(rng, rng.randint(1, 4))
        other = rng.choice((one, mutated(rng, one), expression(rng, rng.randint(1, 4)), f"{one}+0", f"({one})"))
        yield (one, other) if rng.random() < 0.8 else (mutated(rng, one), other)
