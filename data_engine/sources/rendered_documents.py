"""Markdown, HTML and code set on a page, and asked back (see `synthesis.documents`, `synthesis.code`).

Three tasks: `reconstruct` the source from the picture; `fill` what a hole in the source stands for, which the picture
shows; name what is `hidden` in the picture by a bar, which the source tells. `path` is a folder with the texts, the
fonts and the source files that the options name.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import Field, model_validator

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Media, Sample, assistant, user
from data_engine.sources.common import Quarantined, image_part, make_sample, parse_options
from data_engine.sources.drawn import count_units, indices, subfolder
from data_engine.synthesis import code, compose, documents, fonts, layouts, typeset
from data_engine.synthesis import text_wording as wording
from data_engine.synthesis.fonts import Face
from data_engine.synthesis.texts import Texts
from data_engine.synthesis.typeset import Sheet
from data_engine.synthesis.wording import LANGUAGES, Language
from strict_yaml import RecipeError, Strict

Kind = Literal["markdown", "html", "code"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Task = Literal["reconstruct", "fill", "hidden"]
TASKS: tuple[Task, ...] = get_args(Task)


class RenderedDocumentsOptions(Strict):
    """`num`: how many pages of each kind. `tasks`: which of them are drawn. `lines`: of code, the least and the most.

    `texts`, `fonts`, `code`: folders below the source's path. `ppi`: pixels per inch, the least and the most.
    """

    num: dict[Kind, int] = Field(default=dict.fromkeys(KINDS, 100))
    tasks: tuple[Task, ...] = Field(default=TASKS, min_length=1)
    texts: str = "texts"
    fonts: str = "fonts"
    code: str = "code"
    languages: tuple[Language, ...] = Field(default=LANGUAGES, min_length=1)
    lines: tuple[int, int] = (4, 24)
    ppi: tuple[int, int] = (90, 180)
    seed: int = 0

    @model_validator(mode="after")
    def _rise(self) -> Self:
        for name, bounds, floor in (("lines", self.lines, 1), ("ppi", self.ppi, 72)):
            if not floor <= bounds[0] <= bounds[1]:
                raise ValueError(f"{name} {bounds} must rise, from {floor} on")
        return self


@dataclass(frozen=True, slots=True)
class Tools:
    """What pages are made with, found once a unit."""

    options: RenderedDocumentsOptions
    texts: Texts
    faces: dict[str, Face]
    families: dict[Language, tuple[str, ...]]
    mono: tuple[str, ...]
    folder: Path
    code: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Exercise:
    """A page, the language it is written in, its source, the source as it is shown in the question, and the answer."""

    png: bytes
    language: str
    shown: str
    answer: str


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """Ranges of pages, `html#0-50`. Raises RecipeError for a folder that cannot serve."""
    parsed = parse_options(RenderedDocumentsOptions, options, "rendered_documents")
    found = count_units(parsed.num, "rendered_documents")
    _tools(root, parsed)
    return found


def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """A range's pages, each from its own random state."""
    options = parse_options(RenderedDocumentsOptions, source.options, "rendered_documents")
    tools = _tools(root, options)
    kind, numbers = indices(unit)
    for index in numbers:
        rng = random.Random(f"{options.seed}/{kind}/{index}")
        language = options.languages[index % len(options.languages)]
        task: Task = rng.choice(options.tasks)
        origin = f"{kind}#{index}"
        try:
            is_code = kind == "code"
            exercise = _code(rng, task, tools) if is_code else _document(rng, kind, task, language, tools)
        except ValueError as error:
            yield Quarantined(corpus, origin, "text", str(error))
            continue
        asked = {"reconstruct": wording.RECONSTRUCT, "fill": wording.FILL, "hidden": wording.HIDDEN}[task]
        question = rng.choice(asked[language]).format(
            language=exercise.language, source=exercise.shown, hole=documents.HOLE
        )
        media = [Media("image", store.put_bytes(exercise.png, ".png"))]
        turns = (user(image_part(), question), assistant(exercise.answer))
        yield make_sample(
            corpus, source.model_copy(update={"task": f"{source.task}_{task}"}), turns, media, origin=origin
        )


_COLOURS = (
    ("#ffffff", "#000000"),
    ("#fffdf5", "#222222"),
    ("#f3f6fa", "#10243e"),
    ("#1e1e1e", "#e8e8e8"),
    ("#f6f0e4", "#3b2a1a"),
)


def _document(rng: random.Random, kind: str, task: Task, language: Language, tools: Tools) -> Exercise:
    families = _chosen(rng, language, tools)
    author = compose.Author(rng, language, tools.texts, [tools.faces[name] for name in families])
    document = compose.compose(author)
    paper, ink = rng.choice(_COLOURS)
    sheet = Sheet(
        families, tools.mono, rng.choice((10, 11, 12, 14)), rng.randint(320, 620), paper, ink, _ppi(rng, tools)
    )
    sheet = replace(sheet, is_zebra=rng.random() < 0.3)
    target = rng.choice([span for span in documents.spans(document) if span.text.strip()])
    write = documents.markdown if kind == "markdown" else documents.html_source
    hidden = target if task == "hidden" else None
    png = typeset.render(typeset.set_document(document, sheet, hidden), sheet, tools.folder)
    name = {"markdown": "Markdown", "html": "HTML"}[kind]
    shown = write(document, target if task == "fill" else None)
    return Exercise(png, name, shown, shown if task == "reconstruct" else target.text)


def _chosen(rng: random.Random, language: Language, tools: Tools) -> tuple[str, ...]:
    """One family for letters, and in Chinese one for the rest behind it."""
    first = rng.choice(tools.families["en"])
    return (first,) if language == "en" else (first, rng.choice(tools.families["zh"]))


def _code(rng: random.Random, task: Task, tools: Tools) -> Exercise:
    mono = [tools.faces[name] for name in tools.mono]
    path, piece = code.take(rng, tools.code, mono, *tools.options.lines)
    line, first, last = _part(rng, piece.lines)
    lines, paper = code.coloured(
        piece, path, rng.choice(code.STYLES), (line, first, last) if task == "hidden" else None
    )
    sheet = Sheet(tools.mono, tools.mono, rng.choice((9, 10, 12)), 0, paper, ppi=_ppi(rng, tools))
    png = typeset.render(typeset.set_code(lines, sheet, rng.random() < 0.5), sheet, tools.folder)
    part = piece.lines[line][first:last]
    shown = list(piece.lines)
    if task == "fill":
        shown[line] = shown[line][:first] + documents.HOLE + shown[line][last:]
    text = "\n".join(shown)
    return Exercise(png, piece.language, text, text if task == "reconstruct" else part)


def _part(rng: random.Random, lines: tuple[str, ...]) -> tuple[int, int, int]:
    """A line without its indent, or some words that follow each other in it: line, first column, after the last."""
    line = rng.choice([number for number, text in enumerate(lines) if text.strip()])
    text = lines[line]
    starts = [at for at in range(len(text)) if not text[at].isspace() and (at == 0 or text[at - 1].isspace())]
    if rng.random() < 0.3 or len(starts) == 1:
        return line, starts[0], len(text)
    first = rng.randrange(len(starts))
    last = min(len(starts) - 1, first + rng.randint(0, 3))
    return line, starts[first], starts[last] + len(text[starts[last] :].split()[0])


def _ppi(rng: random.Random, tools: Tools) -> int:
    return rng.randint(*tools.options.ppi)


def _tools(root: Path, options: RenderedDocumentsOptions) -> Tools:
    folder = subfolder(root, options.fonts)
    known = typeset.families(folder)
    faces: dict[str, Face] = {}
    for face in fonts.faces(folder):
        if face.family in known and not face.colour:
            faces.setdefault(face.family, face)
    families: dict[Language, tuple[str, ...]] = {
        language: tuple(sorted(name for name, face in faces.items() if layouts.can_write(face, language)))
        for language in LANGUAGES
    }
    wanted: list[Language] = ["en", *(language for language in options.languages if language != "en")]
    missing = [language for language in wanted if not families[language]]
    if missing:
        raise RecipeError(f"{folder}: no font there can write {', '.join(missing)}; add one or name other languages")
    mono = tuple(name for name in families["en"] if name.endswith("Mono"))[:1]
    behind = tuple(families["zh"][:1])
    if not mono:
        raise RecipeError(f"{folder}: no font whose name ends in Mono, which code is written in; add DejaVu Sans Mono")
    needs_code = options.num.get("code", 0) > 0
    found = code.files(subfolder(root, options.code)) if needs_code else ()
    texts = Texts(subfolder(root, options.texts), options.languages)
    return Tools(options, texts, faces, families, mono + behind, folder, found)
