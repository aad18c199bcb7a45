"""Pictures of text that are drawn here, so that what they say is known exactly (see `synthesis.text_pictures`).

`path` is a folder with the texts, fonts and backgrounds that the options name: a change of any of them is a change of
the corpus.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Media, Sample
from data_engine.sources.common import Quarantined, make_sample, parse_options
from data_engine.sources.drawn import count_units, indices, subfolder
from data_engine.synthesis import backgrounds, fonts, layouts, text_pictures, text_tasks
from data_engine.synthesis.layouts import Layout, Writer
from data_engine.synthesis.texts import Texts
from data_engine.synthesis.wording import LANGUAGES, Language
from strict_yaml import RecipeError, Strict

Kind = Literal["plain", "gradient", "paper", "photo"]


class RenderedTextOptions(Strict):
    """How many pictures of each layout, and the shares of what varies.

    `texts`, `fonts`, `backgrounds`: folders below the source's path; without backgrounds there are no photographs.
    `nonsense`: strings that mean nothing. `traditional`: of the Chinese ones. `placed`: questions on places. `tilted`,
    `worn`: turned; blurred, noisy, compressed.
    """

    num: dict[Layout, int] = Field(default=dict.fromkeys(layouts.LAYOUTS, 100))
    texts: str = "texts"
    fonts: str = "fonts"
    backgrounds: str | None = "backgrounds"
    languages: tuple[Language, ...] = Field(default=LANGUAGES, min_length=1)
    nonsense: float = Field(default=0.25, ge=0, le=1)
    traditional: float = Field(default=0.2, ge=0, le=1)
    placed: float = Field(default=0.3, ge=0, le=1)
    tilted: float = Field(default=0.3, ge=0, le=1)
    worn: float = Field(default=0.4, ge=0, le=1)
    seed: int = 0


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """Ranges of pictures, `paragraph#0-50`. Raises RecipeError for a folder that cannot serve."""
    parsed = parse_options(RenderedTextOptions, options, "rendered_text")
    _tools(root, parsed)
    if parsed.num.get("vertical") and "zh" not in parsed.languages:
        raise RecipeError(
            "options of format 'rendered_text': num.vertical: is Chinese; add zh to languages or leave it out"
        )
    return count_units(parsed.num, "rendered_text")


def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """A range's pictures, each from its own random state.

    Tasks on places are told apart as `<task>_placed`, a sheet's body without its furniture as `<task>_body`: only the
    answer of the plain task is all that the picture says.
    """
    options = parse_options(RenderedTextOptions, source.options, "rendered_text")
    texts, faces, photos = _tools(root, options)
    name, numbers = indices(unit)
    layout = next(one for one in layouts.LAYOUTS if one == name)
    for index in numbers:
        rng = random.Random(f"{options.seed}/{layout}/{index}")
        language = options.languages[index % len(options.languages)]
        origin = f"{layout}#{index}"
        try:
            page, picture, language = _drawn(rng, layout, language, options, texts, faces, photos)
        except ValueError as error:
            yield Quarantined(corpus, origin, "text", str(error))
            continue
        is_placed = len(picture.places) > 1 and rng.random() < options.placed
        is_body = layout == "sheet" and not is_placed and rng.random() < 0.5
        ending, turns = (
            ("_body", text_tasks.read_body(rng, page, language))
            if is_body
            else ("", text_tasks.read(rng, layout, page, language))
        )
        if is_placed:
            ending, turns = "_placed", text_tasks.placed(rng, picture, language)
        media = [Media("image", store.put_bytes(picture.data, picture.suffix))]
        own = source.model_copy(update={"task": source.task + ending})
        yield make_sample(corpus, own, turns, media, origin=origin)


def _drawn(
    rng: random.Random,
    layout: Layout,
    language: Language,
    options: RenderedTextOptions,
    texts: Texts,
    faces: dict[Language, list[fonts.Face]],
    photos: tuple[Path, ...],
) -> tuple[layouts.Page, text_pictures.Picture, Language]:
    language = "zh" if layout == "vertical" else language
    is_traditional = language == "zh" and rng.random() < options.traditional
    writer = Writer(rng, language, rng.choice(faces[language]), texts, rng.random() < options.nonsense, is_traditional)
    page = layouts.MAKERS[layout](writer)
    kinds: list[Kind] = ["plain", "gradient", "paper", *(["photo"] if photos else [])]  # type: ignore[list-item]
    kind = "paper" if layout == "receipt" else rng.choice(kinds)
    tilt, wear = rng.random() < options.tilted, rng.random() < options.worn
    return page, text_pictures.draw(rng, page, kind, photos, tilt, wear), language


def _tools(
    root: Path, options: RenderedTextOptions
) -> tuple[Texts, dict[Language, list[fonts.Face]], tuple[Path, ...]]:
    texts = Texts(subfolder(root, options.texts), options.languages)
    folder = subfolder(root, options.fonts)
    found = fonts.faces(folder)
    faces = {language: [face for face in found if layouts.can_write(face, language)] for language in options.languages}
    missing = [language for language, able in faces.items() if not able]
    if missing:
        raise RecipeError(f"{folder}: no font there can write {', '.join(missing)}; add one or name other languages")
    named = options.backgrounds
    return texts, faces, backgrounds.photos(subfolder(root, named)) if named else ()
