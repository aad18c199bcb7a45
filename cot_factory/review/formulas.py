"""Words with formulas as HTML: LaTeX between `$`, `$$`, `\\(`, `\\[` becomes MathML, which browsers draw themselves.

Model text is data: all else is escaped, and of the MathML only elements and attributes on a list pass.
"""

import functools
import re
from xml.etree import ElementTree

from latex2mathml.converter import convert
from markupsafe import Markup, escape

LONGEST = 2000
_FORMULA = re.compile(
    r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<![\\\w$])\$(?=\S)([^$\n]+?)(?<=\S)\$(?![\w$])", re.DOTALL
)
_ELEMENTS = {
    "math", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "mfrac", "msqrt", "mroot", "msub", "msup",
    "msubsup", "munder", "mover", "munderover", "mtable", "mtr", "mtd", "mpadded", "mphantom", "mstyle",
    "mmultiscripts", "mprescripts", "none", "menclose",
}  # fmt: skip
_ATTRIBUTES = {
    "display", "mathvariant", "stretchy", "fence", "separator", "form", "accent", "accentunder", "lspace",
    "rspace", "width", "height", "depth", "linethickness", "columnalign", "rowspacing", "columnspacing",
    "displaystyle", "scriptlevel", "movablelimits", "minsize", "maxsize",
}  # fmt: skip
_NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
_VALUE = re.compile(r"[\w .%+#-]*")


@functools.lru_cache(maxsize=4096)
def drawn(text: str) -> Markup:
    """Safe HTML of a text with formulas. What is no formula that can be drawn is shown as it was written."""
    pieces, at = [], 0
    for found in _FORMULA.finditer(text):
        latex = next(group for group in found.groups() if group is not None)
        is_block = found[1] is not None or found[2] is not None
        pieces += [escape(text[at : found.start()]), _mathml(latex, is_block) or escape(found[0])]
        at = found.end()
    return Markup("").join([*pieces, escape(text[at:])])


def _mathml(latex: str, is_block: bool) -> Markup | None:
    if len(latex) > LONGEST or any(mark in latex for mark in "<>&"):
        latex = latex.replace("<", r"\lt ").replace(">", r"\gt ")
        if len(latex) > LONGEST or ("&" in latex.replace(r"\&", "") and r"\begin" not in latex):
            return None
    try:
        tree = ElementTree.fromstring(convert(latex, display="block" if is_block else "inline"))
    except Exception:  # whatever a model wrote, and whatever the converter makes of it
        return None
    return Markup(ElementTree.tostring(tree, encoding="unicode")) if _cleaned(tree) else None


def _cleaned(node: ElementTree.Element) -> bool:
    """Takes the namespace and unlisted attributes off; False where there is an unlisted element."""
    node.tag = node.tag.removeprefix(_NAMESPACE)
    for name in list(node.attrib):
        if name not in _ATTRIBUTES or not _VALUE.fullmatch(node.attrib[name]):
            del node.attrib[name]
    return node.tag in _ELEMENTS and all(list(map(_cleaned, node)))
