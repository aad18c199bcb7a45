"""Dozens of pictures at once, then questions about some of them (Keye-VL-1.5 report, 3.1): by number, by position,
by description. The answers are the pictures' own captions and numbers."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Self

from pydantic import Field, model_validator

from data_engine.image_measures import phash_file
from data_engine.making import Made, Maker, Tools, derived, unmade
from data_engine.media import MediaError, MediaStore
from data_engine.sample import Message, Part, Sample, assistant, text_part, user
from data_engine.sources.common import Quarantined, image_part
from data_engine.synthesis import many_wording as wording
from data_engine.synthesis import said
from data_engine.synthesis.wording import LANGUAGES, Language


class ManyImages(Maker):
    """Conversations about groups of captioned pictures of one language.

    `images`: the least and the most of a group; `asks`: how many questions. No two pictures of a group have hashes
    within `min_hamming` bits, nor captions that could mean one thing: what is asked for is in one picture only.
    """

    captions: tuple[str, ...] = ("caption",)
    images: tuple[int, int] = (12, 36)
    asks: int = Field(default=4, ge=1, le=8)
    min_hamming: int = Field(default=8, ge=0, le=64)
    seed: int = 0

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not 4 <= self.images[0] <= self.images[1]:
            raise ValueError(f"images {self.images} must rise, from four on")
        return self

    def make(self, samples: Sequence[Sample], tools: Tools) -> Iterator[Made | Quarantined]:
        hashed: dict[str, int] = {}
        able: list[Sample] = []
        for sample in samples:
            if sample.task in self.captions:
                fault = _hash(sample, hashed, MediaStore(tools.store))
                if fault:
                    yield unmade(sample, "media", fault)
                else:
                    able.append(sample)
        for language in LANGUAGES:
            own = [sample for sample in able if said.language_of(said.answer(sample)) == language]
            rng = random.Random(f"{self.seed}/many/{language}/{','.join(sorted(sample.id for sample in own))}")
            rng.shuffle(own)
            yield from self._groups(rng, own, hashed, language)

    def _groups(
        self, rng: random.Random, waiting: list[Sample], hashed: Mapping[str, int], language: Language
    ) -> Iterator[Made | Quarantined]:
        while waiting:
            group, rest = _apart(waiting, rng.randint(*self.images), hashed, self.min_hamming)
            if len(group) < self.images[0]:
                reason = f"{len(group)} pictures that differ enough are left in this part; {self.images[0]} are needed"
                yield from (unmade(sample, "media", reason) for sample in waiting)
                return
            yield Made(self._conversation(rng, group, language), about={"images": str(len(group))})
            waiting = rest

    def _conversation(self, rng: random.Random, group: Sequence[Sample], language: Language) -> Sample:
        captions = [said.answer(sample) for sample in group]
        rounds: list[Round] = []
        while len(rounds) < self.asks:
            new = _ASKS[rng.choice(sorted(_ASKS))](rng, captions, language)
            # An answer given before is in the words, no longer in the pictures alone.
            if not any(new[1] == reply for _, reply in rounds):
                rounds.append(new)
        shown = _shown(len(group), rng.random() < 0.5, language)
        messages: list[Message] = [user(*shown, rounds[0][0]), assistant(rounds[0][1])]
        for question, reply in rounds[1:]:
            messages += [user(question), assistant(reply)]
        media = [sample.media[0] for sample in group]
        return derived(group, "many_images", messages, media, place=f"many={language}")


def _hash(sample: Sample, hashed: dict[str, int], store: MediaStore) -> str:
    """Puts the picture's hash into `hashed`; what is wrong with it, if anything."""
    key = said.picture_of(sample)
    if key is None:
        return "many_images needs samples with exactly one picture"
    try:
        hashed[key] = hashed[key] if key in hashed else phash_file(store.read(key))
    except (MediaError, OSError) as error:
        return str(error)
    return ""


def _apart(
    waiting: Sequence[Sample], count: int, hashed: Mapping[str, int], min_hamming: int
) -> tuple[list[Sample], list[Sample]]:
    """The first samples that keep their distance from each other, at most `count`, and all the others."""
    group: list[Sample] = []
    rest: list[Sample] = []
    words: list[frozenset[str]] = []
    for sample in waiting:
        own, code = said.content(said.answer(sample)), hashed[sample.media[0].key]
        is_near = any((code ^ hashed[other.media[0].key]).bit_count() <= min_hamming for other in group)
        if len(group) == count or is_near or not own or any(said.may_mean_one_thing(own, other) for other in words):
            rest.append(sample)
        else:
            group.append(sample)
            words.append(own)
    return group, rest


def _shown(count: int, are_numbered: bool, language: Language) -> list[Part]:
    parts: list[Part] = []
    for number in range(count):
        if are_numbered:
            parts.append(text_part(wording.LABEL[language].format(number + 1)))
        parts.append(image_part(number))
    return [*parts, text_part("\n")]


Round = tuple[str, str]


def _by_number(rng: random.Random, captions: Sequence[str], language: Language) -> Round:
    at = rng.randrange(len(captions))
    return rng.choice(wording.CAPTION[language]).format(wording.nth(at, len(captions), language)), captions[at]


def _from_end(rng: random.Random, captions: Sequence[str], language: Language) -> Round:
    at = len(captions) - rng.randint(1, 3)
    return rng.choice(wording.CAPTION[language]).format(wording.from_end(at, len(captions), language)), captions[at]


def _two(rng: random.Random, captions: Sequence[str], language: Language) -> Round:
    first, second = rng.sample(range(len(captions)), k=2)
    names = [wording.nth(at, len(captions), language) for at in (first, second)]
    return rng.choice(wording.TWO[language]).format(*names), f"{captions[first]}\n{captions[second]}"


def _which(rng: random.Random, captions: Sequence[str], language: Language) -> Round:
    at = rng.randrange(len(captions))
    question = rng.choice(wording.WHICH[language]).format(said.plain(captions[at]))
    return question, wording.NUMBER[language].format(at + 1)


def _after(rng: random.Random, captions: Sequence[str], language: Language) -> Round:
    at = rng.randrange(len(captions) - 1)
    return rng.choice(wording.AFTER[language]).format(said.plain(captions[at])), captions[at + 1]


def _how_many(rng: random.Random, captions: Sequence[str], language: Language) -> Round:
    return rng.choice(wording.COUNT[language]), str(len(captions))


_ASKS: Mapping[str, Callable[[random.Random, Sequence[str], Language], Round]] = {
    "number": _by_number,
    "end": _from_end,
    "two": _two,
    "which": _which,
    "after": _after,
    "count": _how_many,
}
