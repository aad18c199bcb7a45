"""Questions about a drawn page whose answers are the page itself: reading, and reading with places."""

import random
from collections.abc import Mapping, Sequence

import numpy as np

from data_engine import grounding
from data_engine.grounding import Box, Label, Polygon
from data_engine.sample import Message, assistant, user
from data_engine.sources.common import image_part
from data_engine.synthesis import text_wording as wording
from data_engine.synthesis.layouts import Layout, Page
from data_engine.synthesis.text_pictures import Picture, Place
from data_engine.synthesis.wording import Language

_READ: Mapping[Layout, wording.Wordings] = {
    "row": wording.READ_ROW,
    "columns": wording.READ_COLUMNS,
    "vertical": wording.READ_VERTICAL,
}
Turns = tuple[Message, ...]


def read(rng: random.Random, layout: Layout, page: Page, language: Language) -> Turns:
    """All of the page."""
    return _turns(rng.choice(_READ.get(layout, wording.READ)[language]), page.text())


def read_body(rng: random.Random, page: Page, language: Language) -> Turns:
    """A sheet without its running title and page number."""
    return _turns(rng.choice(wording.READ_BODY[language]), page.text(("body",)))


def placed(rng: random.Random, picture: Picture, language: Language) -> Turns:
    """All texts with their places, the place of one, or the text at a place.

    Only a text that is no part of another is asked for. An upright page's places are boxes, a tilted one's polygons.
    """
    asked = _unambiguous(picture.places)
    kind = rng.choice(("spot", "locate", "read_at") if asked else ("spot",))
    if kind == "spot":
        marks = grounding.render([shape(picture, place, is_labelled=True) for place in picture.places])
        return _turns(rng.choice(wording.SPOT[language]), marks)
    place = rng.choice(asked)
    mark = grounding.render([shape(picture, place, is_labelled=False)])
    if kind == "locate":
        named = f"<|ocr_text_start|>{place.text}<|ocr_text_end|>"
        answer = grounding.render([shape(picture, place, is_labelled=True)])
        return _turns(rng.choice(wording.LOCATE[language]).format(named), answer)
    return _turns(rng.choice(wording.READ_AT[language]).format(mark), place.text)


def _turns(question: str, answer: str) -> Turns:
    return user(image_part(), question), assistant(answer)


def _unambiguous(places: Sequence[Place]) -> list[Place]:
    return [one for one in places if sum(one.text in other.text for other in places) == 1]


def shape(picture: Picture, place: Place, is_labelled: bool) -> Box | Polygon:
    """A line's place in bins."""
    bins = grounding.normalise(np.array(place.quad), picture.width, picture.height).tolist()
    label = Label(place.text, "ocr_text") if is_labelled else None
    if picture.is_upright:
        (x1, y1), _, (x2, y2), _ = bins
        return Box(x1, y1, x2, y2, label)
    return Polygon(tuple((x, y) for x, y in bins), label)
