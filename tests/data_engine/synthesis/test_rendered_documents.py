"""Sources are parsed by peers (markdown-it, lxml) and pages read by rapidocr: all three must say the same."""

import io
import random
import re
import statistics
from pathlib import Path

import lxml.html
import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from data_engine.media import MediaStore
from data_engine.sources import rendered_documents
from data_engine.synthesis import code, compose, documents, fonts, typeset
from data_engine.synthesis.documents import HOLE, Heading, Listing, Paragraph, Span, Table
from data_engine.synthesis.texts import Texts
from data_engine.synthesis.typeset import Sheet
from strict_yaml import RecipeError
from tests.data_engine.synthesis.drawn_corpora import agreement, answer, pixels, question, read_all, seen

SHEET = Sheet(("DejaVu Sans", "WenQuanYi Zen Hei"), ("DejaVu Sans Mono", "WenQuanYi Zen Hei"), width=430)


@pytest.fixture(scope="module")
def writing(corpora) -> Path:
    pytest.importorskip("typst")
    for part in ("fonts/latin", "fonts/zh", "texts/zh", "texts/en", "code"):
        corpora / f"writing/{part}"
    return corpora / "writing"


@pytest.fixture(scope="module")
def author(writing):
    words = Texts(writing / "texts", ("en", "zh"))
    faces = [face for face in fonts.faces(writing / "fonts") if face.family in SHEET.families]
    return lambda seed: compose.Author(random.Random(seed), "en" if seed % 2 else "zh", words, faces)


def _without_formulas(document: documents.Document) -> documents.Document:
    """rapidocr reads no fractions: formulas are checked by their own test."""
    kept = []
    for block in document:
        if isinstance(block, Paragraph):
            kept.append(Paragraph(tuple(span for span in block.spans if span.style != "formula")))
        elif not isinstance(block, documents.Formula):
            kept.append(block)
    return tuple(kept)


def _image(document: documents.Document, folder: Path, hidden: Span | None = None) -> np.ndarray:
    png = typeset.render(typeset.set_document(document, SHEET, hidden), SHEET, folder)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def _squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


def test_peers_and_picture_say_what_the_document_says(writing, author) -> None:
    scores = []
    for seed in range(10):
        document = _without_formulas(compose.compose(author(seed)))
        words = _squeezed("".join(span.text for span in documents.spans(document)))
        by_markdown = lxml.html.fromstring(
            "<div>" + MarkdownIt("commonmark").enable("table").render(documents.markdown(document)) + "</div>"
        )
        by_html = lxml.html.fromstring("<div>" + documents.html_source(document) + "</div>")
        assert _squeezed(by_markdown.text_content()) == _squeezed(by_html.text_content()) == words
        for tag in ("h1", "h2", "h3", "li", "ol", "ul", "th", "td", "code"):
            assert len(by_markdown.findall(f".//{tag}")) == len(by_html.findall(f".//{tag}")), (seed, tag)
        assert len(by_markdown.findall(".//strong")) == len(by_html.findall(".//b"))
        assert len(by_markdown.findall(".//em")) == len(by_html.findall(".//i"))
        numbers = "".join(
            f"{n}." for b in document if isinstance(b, Listing) and b.is_numbered for n in range(1, len(b.items) + 1)
        )
        if seed < 3:
            scores.append(
                agreement(words + numbers, seen(_image(document, writing / "fonts")).replace("·", "").replace("•", ""))
            )
    assert statistics.mean(scores) >= 0.95 and min(scores) >= 0.85, scores


def test_the_bar_is_drawn_over_what_is_hidden_and_over_nothing_else(writing, author) -> None:
    """Both pictures differ in one box only; inside of it there is one grey, and without the bar the answer."""
    found = 0
    for seed in range(12):
        document = _without_formulas(compose.compose(author(seed)))
        spans = [span for span in documents.spans(document) if len(span.text) > 5]
        target = random.Random(seed).choice(spans)
        plain, barred = _image(document, writing / "fonts"), _image(document, writing / "fonts", target)
        if plain.shape != barred.shape:
            continue  # a box does not wrap as words do
        ys, xs = np.nonzero((plain != barred).any(axis=2))
        inside = barred[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        is_bar = (inside == (90, 90, 90)).all(axis=2).mean()
        if is_bar < 0.9:
            continue  # what followed has moved to another line
        found += 1
        cut = plain[max(0, ys.min() - 6) : ys.max() + 6, max(0, xs.min() - 6) : xs.max() + 6]
        assert agreement(target.text, seen(np.pad(cut, ((16, 16), (16, 16), (0, 0)), mode="edge"))) >= 0.7, target
        if found == 5:
            break
    assert found == 5


def test_a_hole_is_where_the_answer_belongs(writing, tmp_path) -> None:
    """Put into its place, the answer gives the source that the other task would ask for."""
    store = MediaStore(tmp_path)
    num = {"markdown": 12, "html": 12, "code": 12}
    filled, refused = read_all(writing, store, "rendered_documents", num=num, tasks=["fill"])
    assert not refused and {sample.task for sample in filled} == {"ocr_fill"}
    for sample in filled:
        source = question(sample).split("\n", 1)[1]
        assert source.count(HOLE) == 1 and answer(sample)
        whole = source.replace(HOLE, answer(sample))
        if sample.origin.startswith("html"):
            assert lxml.html.fromstring(f"<div>{whole}</div>").findtext(".//h1")
        elif sample.origin.startswith("markdown"):
            assert MarkdownIt("commonmark").enable("table").render(whole).startswith("<h1>")
        else:
            assert whole.splitlines()[0] == whole.splitlines()[0].rstrip(), "as the file has it"
    for sample in [sample for sample in filled if sample.origin.startswith("code")][:2]:
        whole = question(sample).split("\n", 1)[1].replace(HOLE, answer(sample))
        assert agreement(whole, seen(pixels(sample, store))) >= 0.6, "line numbers and small signs cost some"


def test_code_is_drawn_as_it_stands(writing, tmp_path) -> None:
    store = MediaStore(tmp_path)
    samples, _ = read_all(
        writing, store, "rendered_documents", num={"code": 4}, tasks=["reconstruct"], ppi=[144, 144], lines=[4, 10]
    )
    scores = [
        agreement(answer(sample), re.sub(r"^\d+\s*$", "", seen(pixels(sample, store)), flags=re.M))
        for sample in samples
    ]
    assert statistics.mean(scores) >= 0.85, scores
    lines = {
        line.expandtabs(4).strip()
        for path in code.files(writing / "code")
        for line in path.read_text("utf-8", "replace").splitlines()
    }
    assert all(line.strip() in lines for sample in samples for line in answer(sample).splitlines())


def test_hidden_code_is_what_the_bar_covers(writing) -> None:
    piece = code.Code("Python", ("def area(r):", "    return 3.14 * r * r"))
    shown, paper = code.coloured(piece, Path("a.py"), "default", None)
    barred, _ = code.coloured(piece, Path("a.py"), "default", (1, 11, 19))
    assert ["".join(token.text for token in line) for line in barred] == list(piece.lines)
    assert "".join(token.text for line in barred for token in line if token.is_hidden) == "3.14 * r"
    assert not any(token.is_hidden for line in shown for token in line)
    sheet = Sheet(SHEET.mono, SHEET.mono, width=0, paper=paper)
    images = [
        np.asarray(
            Image.open(io.BytesIO(typeset.render(typeset.set_code(lines, sheet, False), sheet, writing / "fonts")))
        )
        for lines in (shown, barred)
    ]
    assert images[0].shape == images[1].shape
    ys, xs = np.nonzero((images[0] != images[1]).any(axis=2))
    inside = images[1][ys.min() : ys.max() + 1, xs.min() : xs.max() + 1, :3]
    assert (inside == 90).all(axis=2).mean() >= 0.95


@pytest.mark.parametrize("style", code.STYLES)
def test_all_colours_of_a_theme_can_be_read(style: str) -> None:
    piece = code.Code(
        "Python", ("# a comment", "@decorated", "def f(x: int) -> str:", "    return f'{x!r}' + \"b\" * 0x1F")
    )
    lines, paper = code.coloured(piece, Path("a.py"), style)
    assert min(_contrast(token.colour, paper) for line in lines for token in line) >= 2.95


def _contrast(one: str, other: str) -> float:
    lights = []
    for colour in (one, other):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        values = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [v / 12.92 if v <= 0.04 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_formulas_are_the_same_in_both_notations(writing) -> None:
    """Typst's own mathematics accepts every one of them, and sympy-free counting agrees: as many roots, sums and
    integrals in either notation."""
    for seed in range(60):
        made = compose._formula(random.Random(seed), 3)
        for latex, typst in (
            ("\\sqrt", "sqrt("),
            ("\\frac", "frac("),
            ("\\sum", "sum_"),
            ("\\int", "integral_"),
            ("\\pi", "pi"),
        ):
            assert made.text.count(latex) == made.typst.count(typst), made
        assert made.text.count("{") == made.text.count("}")
        typeset.render(typeset.set_document((documents.Formula(made),), SHEET), SHEET, writing / "fonts")


def test_nothing_in_a_text_is_markup_to_the_typesetter(writing) -> None:
    sly = 'a #let x = 1 "quoted" \\ $x$ [b] *c* _d_ // e'
    document = (Heading(1, Span("Title")), Paragraph((Span(sly),)), Table((Span("cell"),), ((Span('"word"'),),)))
    assert agreement("Title" + sly + 'cell"word"', seen(_image(document, writing / "fonts"))) >= 0.85


def test_the_same_page_in_cold_and_warm_compilers(writing, tmp_path) -> None:
    first, _ = read_all(writing, MediaStore(tmp_path / "a"), "rendered_documents", num={"html": 3, "code": 2})
    typeset._compiler.cache_clear()
    second, _ = read_all(writing, MediaStore(tmp_path / "b"), "rendered_documents", num={"code": 2, "html": 3})
    assert {sample.id for sample in first} == {sample.id for sample in second}


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"num": {"latex": 1}}, "num.latex"),
        ({"num": {"html": -1}}, "must not be negative"),
        ({"tasks": []}, "at least 1 item"),
        ({"tasks": ["guess"]}, "tasks.0"),
        ({"code": "texts"}, "no folder with source code"),
        ({"code": "nowhere"}, "no folder with source code"),
        ({"fonts": "fonts/zh"}, "Mono"),
        ({"fonts": "fonts/latin"}, "can write zh"),
        ({"lines": [9, 3]}, "lines (9, 3) must rise"),
        ({"ppi": [300, 100]}, "ppi (300, 100) must rise"),
        ({"task": ["fill"]}, "did you mean 'tasks'"),
    ],
)
def test_wrong_options_are_named(writing, options, fault) -> None:
    with pytest.raises(RecipeError, match=re.escape(fault)):
        rendered_documents.units(writing, options)
