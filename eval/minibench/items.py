"""The benchmark itself: 300 items, fifty of each kind, the same bytes for the same seed."""

import functools
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from data_engine.clips import Clip
from data_engine.media import decode_image, encode_jpeg
from eval.minibench import films, pictures
from eval.minibench.form import Form
from eval.minibench.scene import Scene, draw, png
from model.slow_fast import label_frames

KINDS: dict[str, tuple[Form, ...]] = {
    "shapes": pictures.SHAPES_AND_COLORS,
    "counting": pictures.COUNTING,
    "ocr": pictures.OCR,
    "spatial": pictures.SPATIAL,
    "order": films.ORDER,
    "when": films.WHEN,
}
VIDEO_KINDS = ("order", "when")
MAX_PER_KIND = len(pictures.OCR[0].answers)


@dataclass(frozen=True, slots=True)
class Item:
    """One question. `form` is its wording without what it names; `choices` is empty where any words may be the answer.

    `media` is a PNG or a clip; `blank` its control: the same background, size and times, and nothing on it.
    """

    id: str
    kind: str
    form: str
    question: str
    answer: str
    choices: tuple[str, ...]
    media: bytes | Clip
    blank: bytes | Clip


def items(seed: int = 0, per_kind: int = 50) -> list[Item]:
    """`per_kind` items of each kind, kinds one after the other; a kind's forms take turns, and so do a form's answers.

    Raises ValueError for more than MAX_PER_KIND of a kind: there are no more words to read.
    """
    if not 0 < per_kind <= MAX_PER_KIND:
        raise ValueError(f"per_kind {per_kind}: give 1 to {MAX_PER_KIND}")
    return [item for kind, forms in KINDS.items() for item in _of_kind(kind, forms, seed, per_kind)]


def _of_kind(kind: str, forms: Sequence[Form], seed: int, num: int) -> Iterator[Item]:
    decks = [
        Random(f"{seed}/{kind}/{form.words}").sample(form.answers, len(form.answers)) for form in forms
    ]  # a string as seed gives the same stream in every process
    for number in range(num):
        turn, place = divmod(number, len(forms))
        deck = decks[place]
        yield _item(kind, forms[place], deck[turn % len(deck)], Random(f"{seed}/{kind}/{number}"))


def _item(kind: str, form: Form, answer: str, random: Random) -> Item:
    names, scenes = form.draw(random, answer)
    question = form.words.format(**names)
    media, blank = (
        (_clip(scenes), _clip([replace(scene, things=()) for scene in scenes]))
        if kind in VIDEO_KINDS
        else (png(draw(scenes[0])), png(draw(replace(scenes[0], things=()))))
    )
    choices = form.answers if form.is_closed else ()
    return Item(_id(kind, question, answer, media), kind, form.words, question, answer, choices, media, blank)


def _id(kind: str, question: str, answer: str, media: bytes | Clip) -> str:
    """Named by content: an item that changes gets another id."""
    content = media if isinstance(media, bytes) else b"".join(media.frames)
    said = json.dumps([kind, question, answer]).encode()
    return f"{kind}-{hashlib.sha256(said + content).hexdigest()[:12]}"


def _clip(scenes: Sequence[Scene]) -> Clip:
    """Frames at films.FPS, labelled slow or fast from their decoded pixels, as the data engine does it.

    A blank clip is labelled anew: the labels of the other would say when something changes.
    """
    jpeg = functools.cache(lambda scene: encode_jpeg(draw(scene)))
    frames = [jpeg(scene) for scene in scenes]
    labels = label_frames([decode_image(frame) for frame in frames])
    return Clip(
        frames=frames,
        times=[index / films.FPS for index in range(len(frames))],
        is_slow=[label.is_slow for label in labels],
        similarity=[label.similarity for label in labels],
        height=scenes[0].height,
        width=scenes[0].width,
    )


def chance(found: Sequence[Item]) -> dict[str, float]:
    """Per kind, the share that the commonest answer to each form of question gets right: the best without looking."""
    answers: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for item in found:
        answers[item.kind][item.form][item.answer] += 1
    return {
        kind: sum(max(counts.values()) for counts in forms.values()) / sum(counts.total() for counts in forms.values())
        for kind, forms in answers.items()
    }
