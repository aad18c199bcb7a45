"""A formula's text without the dress that changes nothing: dollar signs, display styles, closing full stops."""

import re

_DRESS = [
    (r"\\(?:left|right|displaystyle|textstyle|limits)(?![a-zA-Z])", ""), (r"\\[,;:!]|\\ |~|\\quad|\\qquad", " "),
    (r"\{,\}", ""), (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"), (r"[−–﹣－]", "-"), (r"[×]", r"\\times "), (r"[·⋅]", r"\\cdot "),
    (r"÷", "/"), (r"π", r"\\pi "), (r"∞", r"\\infty "), (r"≤", r"\\leq "), (r"≥", r"\\geq "), (r"≠", r"\\neq "),
    (r"√\(([^()]*)\)", r"\\sqrt{\1}"), (r"√(\w+)", r"\\sqrt{\1}"), (r"∪", r"\\cup "), (r"∈", r"\\in "), (r"°", r"^{\\circ}"),
    (r"\*\*", "^"),
]  # fmt: skip
_RULES = [(re.compile(pattern), by) for pattern, by in _DRESS]
_BOX = re.compile(r"^\\(?:boxed|fbox)\s*\{(.*)\}$", re.DOTALL)
_FENCES = (("$$", "$$"), ("$", "$"), ("\\[", "\\]"), ("\\(", "\\)"))


def normal(text: str) -> str:
    """The formula in one line of plain LaTeX. A text that is no UTF-8 (lone surrogates) loses what is none."""
    said = text.encode("utf-8", "ignore").decode().replace("\0", " ").strip()
    while True:
        before = said
        said = re.sub(r"(?<!\\)[.。,;]+$", "", said.strip()).strip()
        for opening, closing in _FENCES:
            if len(said) > len(opening) + len(closing) and said.startswith(opening) and said.endswith(closing):
                said = said[len(opening) : -len(closing)].strip()
        if box := _BOX.match(said):
            said = box[1]
        if said == before:
            break
    for pattern, by in _RULES:
        said = pattern.sub(by, said)
    return " ".join(said.split())
