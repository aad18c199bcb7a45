"""Matrices of characters with an instruction in Chinese, thirteen classes of them (see `synthesis.character_matrix`).

`path` is a folder with the texts, fonts and backgrounds that the options name.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from data_engine.media import MediaStore
from data_engine.recipe import Source
from data_engine.sample import Media, Sample, assistant, user
from data_engine.sources.common import Quarantined, image_part, make_sample, parse_options
from data_engine.sources.drawn import count_units, indices, subfolder
from data_engine.synthesis import backgrounds, fonts, matrix_pictures
from data_engine.synthesis.character_matrix import READINGS, Reading, ask
from data_engine.synthesis.matrix_pictures import FILLINGS, NOISES, Filling, Fonts, Noise
from data_engine.synthesis.texts import Texts
from data_engine.synthesis.wording import Language
from strict_yaml import Strict


class CharacterMatrixOptions(Strict):
    """`num`: how many of each class, the rest none. `rows`, `columns`: the least and the most.

    `noise`: the share of cells with a character of another kind, of `noises`. `fillings`: what the others are of.
    """

    num: dict[Reading, int] = Field(default=dict.fromkeys(READINGS, 100))
    texts: str = "texts"
    fonts: str = "fonts"
    backgrounds: str | None = None
    languages: tuple[Language, ...] = Field(default=("zh",), min_length=1)
    rows: tuple[int, int] = (3, 9)
    columns: tuple[int, int] = (3, 9)
    fillings: tuple[Filling, ...] = Field(default=FILLINGS, min_length=1)
    noise: float = Field(default=0.15, ge=0, le=1)
    noises: tuple[Noise, ...] = NOISES
    seed: int = 0

    @model_validator(mode="after")
    def _is_a_matrix(self) -> Self:
        for name, (least, most) in (("rows", self.rows), ("columns", self.columns)):
            if not 2 <= least <= most <= 40:
                raise ValueError(f"{name} {(least, most)} must rise and lie within 2 and 40")
        return self


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """Ranges of pictures, `row_left#0-50`. Raises RecipeError for a folder that cannot serve."""
    parsed = parse_options(CharacterMatrixOptions, options, "character_matrix")
    _tools(root, parsed)
    return count_units(parsed.num, "character_matrix")


def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """A range's matrices, each from its own random state, with one instruction each."""
    options = parse_options(CharacterMatrixOptions, source.options, "character_matrix")
    texts, faces, photos = _tools(root, options)
    name, numbers = indices(unit)
    reading = next(one for one in READINGS if one == name)
    for index in numbers:
        rng = random.Random(f"{options.seed}/{reading}/{index}")
        have = Fonts(tuple(rng.sample(faces, k=len(faces))))
        size = rng.randint(*options.rows), rng.randint(*options.columns)
        origin = f"{reading}#{index}"
        try:
            noise = options.noise, options.noises
            matrix = matrix_pictures.fill(rng, size, rng.choice(options.fillings), texts, noise, have)
            asked = ask(rng, reading, matrix, options.languages[index % len(options.languages)])
        except ValueError as error:
            yield Quarantined(corpus, origin, "text", str(error))
            continue
        sheet = matrix_pictures.draw(rng, matrix, have, photos)
        media = [Media("image", store.put_bytes(sheet.data, sheet.suffix))]
        yield make_sample(
            corpus, source, (user(image_part(), asked.question), assistant(asked.answer)), media, origin=origin
        )


def _tools(root: Path, options: CharacterMatrixOptions) -> tuple[Texts, tuple[fonts.Face, ...], tuple[Path, ...]]:
    needed: tuple[Language, ...] = ("zh",) if "passage" in options.fillings else ()
    texts = Texts(subfolder(root, options.texts), needed)
    named = options.backgrounds
    photos = backgrounds.photos(subfolder(root, named)) if named else ()
    return texts, fonts.faces(subfolder(root, options.fonts)), photos
