"""Documents composed of real passages: headings, paragraphs with marked words, lists, tables, formulas."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data_engine.synthesis.documents import (
    MARKDOWN_SIGNS,
    Block,
    Document,
    Formula,
    Heading,
    Listing,
    Paragraph,
    Span,
    Style,
    Table,
)
from data_engine.synthesis.fonts import Face
from data_engine.synthesis.texts import Texts
from data_engine.synthesis.wording import Language


@dataclass(frozen=True, slots=True)
class Author:
    """Where the words come from, and the fonts that must be able to write them."""

    rng: random.Random
    language: Language
    texts: Texts
    faces: Sequence[Face]

    def words(self, least: int, most: int) -> str:
        """A passage without Markdown's signs. Raises ValueError where three hundred have none that fits."""
        scale = 1.0 if self.language == "en" else 0.45
        least, most = max(2, int(least * scale)), max(4, int(most * scale))
        for _ in range(300):
            text = self.texts.take(self.rng, self.language, least, most)
            fits = len(text) * 3 > least and not MARKDOWN_SIGNS.intersection(text) and text[0].isalpha()
            if fits and all(any(face.covers(char) for face in self.faces) for char in text):
                return text
        raise ValueError(f"the fonts cover too little of the texts in {self.language}")


def compose(author: Author) -> Document:
    """A heading and two to five further blocks, at least one of them not a paragraph."""
    rng = author.rng
    kinds: list[Callable[[Author], Block]] = [paragraph, listing, table, formula]
    chosen = [rng.choice(kinds[1:]), *rng.choices(kinds, weights=(4, 2, 2, 1), k=rng.randint(1, 4))]
    rng.shuffle(chosen)
    blocks: list[Block] = [Heading(1, Span(author.words(8, 30)))]
    for number, make in enumerate(chosen):
        if number and rng.random() < 0.3:
            blocks.append(Heading(rng.choice((2, 3)), Span(author.words(6, 24))))
        # Two lists side by side would be one to Markdown.
        blocks.append(paragraph(author) if make is listing and isinstance(blocks[-1], Listing) else make(author))
    return tuple(blocks)


def paragraph(author: Author) -> Paragraph:
    """Passages one after the other; between them now and then words in bold, italic or of code, or a formula."""
    spans = [Span(author.words(30, 90).rstrip(_STOPS))]
    for _ in range(author.rng.randint(0, 2)):
        style: Style = author.rng.choice(("bold", "italic", "code", "formula"))
        marked = _formula(author.rng, 1) if style == "formula" else Span(author.words(4, 12).strip(_STOPS), style)
        # A mark beside a letter is no mark to Markdown, in Chinese either: spaces around it are in both.
        spans += [Span(" "), marked, Span(" "), Span(author.words(16, 50).rstrip(_STOPS))]
    spans[-1] = Span(spans[-1].text + ("." if author.language == "en" else "。"))
    return Paragraph(tuple(spans))


_STOPS = " .,;:!?。，；：！？、…"


def listing(author: Author) -> Listing:
    items = tuple(Span(author.words(8, 36)) for _ in range(author.rng.randint(2, 5)))
    return Listing(author.rng.random() < 0.5, items)


def table(author: Author) -> Table:
    """Words in the first column, words or numbers in the others."""
    columns, rows = author.rng.randint(2, 4), author.rng.randint(2, 5)
    are_numbers = [False, *(author.rng.random() < 0.6 for _ in range(columns - 1))]
    header = tuple(Span(author.words(4, 12)) for _ in range(columns))
    return Table(header, tuple(tuple(_cell(author, number) for number in are_numbers) for _ in range(rows)))


def _cell(author: Author, is_number: bool) -> Span:
    return Span(f"{author.rng.uniform(0, 5000):.{author.rng.choice((0, 1, 2))}f}" if is_number else author.words(4, 14))


def formula(author: Author) -> Formula:
    return Formula(_formula(author.rng, 3))


def _formula(rng: random.Random, depth: int) -> Span:
    left, right = _term(rng, 1), _term(rng, depth)
    return Span(f"{left[0]} = {right[0]}", "formula", f"{left[1]} = {right[1]}")


_GREEK = ("alpha", "beta", "gamma", "lambda", "mu", "pi", "sigma", "theta")


def _term(rng: random.Random, depth: int) -> tuple[str, str]:
    """A term in LaTeX and in Typst's own notation."""
    if depth <= 0 or (depth < 3 and rng.random() < 0.3):
        return _atom(rng)
    (a, b), (c, d) = _term(rng, depth - 1), _term(rng, depth - 1)
    n = rng.randint(2, 9)
    x, y = _atom(rng)
    forms = (
        (f"\\frac{{{a}}}{{{c}}}", f"frac({b}, {d})"),
        (f"\\sqrt{{{a}}}", f"sqrt({b})"),
        (f"{a} + {c}", f"{b} + {d}"),
        (f"{x}^{{{n}}}", f"{y}^({n})"),
        (f"{x}_{{{n}}} - {a}", f"{y}_({n}) - {b}"),
        (f"\\sum_{{k=1}}^{{{n}}} {x}_{{k}}", f"sum_(k=1)^({n}) {y}_(k)"),
        (f"\\int_{{0}}^{{{n}}} {a} \\, dt", f"integral_0^({n}) {b} thin d t"),
    )
    return rng.choice(forms)


def _atom(rng: random.Random) -> tuple[str, str]:
    if rng.random() < 0.4:
        name = rng.choice(_GREEK)
        return f"\\{name}", name
    letter = rng.choice("abcmnpqrsxyz")
    return letter, letter
