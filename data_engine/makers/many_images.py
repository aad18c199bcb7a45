"""Dozens of pictures at once, then questions about some of them (Keye-VL-1.5 report, 3.1): by number, by position,
by description. The answers are the pictures' own captions and numbers."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from data_engine.image_measures import phash_file
from data_engine.makers import many_wording as wording
from data_engine.makers import said
from data_engine.making import Made, Maker, Outcome, Tools, Unmade, derived
from data_engine.media import MediaError, MediaStore
from data_engine.sample import Message, Part, Sample, assistant, text_part, user
from data_engine.sources.common import image_part
from data_engine.synthesis.wording import LANGUAGES, Language


class ManyImages(Maker):
    """Conversations about groups of captioned pictures of one language.

    `images`: the least and the most of a group; `asks`: how many questions. A picture that is asked for has no other
    in its group with a hash within `min_hamming` bits; one that is described none whose caption could mean it, too.
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

    def make(self, samples: Sequence[Sample], tools: Tools) -> Iterator[Outcome]:
        hashed: dict[str, int] = {}
        able: list[Sample] = []
        for sample in samples:
            if sample.task in self.captions:
                fault = _hash(sample, hashed, MediaStore(tools.store))
                if fault:
                    yield Unmade(sample, fault)
                else:
                    able.append(sample)
        for language in LANGUAGES:
            own = [sample for sample in able if said.language_of(said.answer(sample)) == language]
            rng = random.Random(f"{self.seed}/many/{language}/{','.join(sorted(sample.id for sample in own))}")
            rng.shuffle(own)
            for group in _groups(rng, own, *self.images):
                if len(group) < self.images[0]:
                    reason = f"{len(group)} pictures are left over in this part; {self.images[0]} are needed"
                    yield from (Unmade(sample, reason) for sample in group)
                else:
                    yield self._conversation(rng, group, hashed, language)

    def _conversation(
        self, rng: random.Random, samples: Sequence[Sample], hashed: Mapping[str, int], language: Language
    ) -> Outcome:
        group = _known(samples, hashed, self.min_hamming)
        rounds: list[Round] = []
        for _ in range(20 * self.asks):
            new = _ASKS[rng.choice(sorted(_ASKS))](rng, group, language)
            # An answer given before is in the words, no longer in the pictures alone.
            if new and not any(new.answer == earlier.answer for earlier in rounds):
                rounds.append(new)
            if len(rounds) == self.asks:
                break
        if len(rounds) < self.asks:
            return Unmade(samples[0], "too many pictures of its group look alike to ask for some")
        shown = _shown(len(samples), rng.random() < 0.5, language)
        messages: list[Message] = [user(*shown, rounds[0].question), assistant(rounds[0].answer)]
        for one in rounds[1:]:
            messages += [user(one.question), assistant(one.answer)]
        media = [sample.media[0] for sample in samples]
        made = derived(samples, "many_images", messages, media, place=f"many={language}")
        asked = " ".join(str(at + 1) for one in rounds for at in one.asked)
        return Made(made, about={"images": str(len(samples)), "asked": asked})


def _groups(rng: random.Random, samples: Sequence[Sample], least: int, most: int) -> Iterator[Sequence[Sample]]:
    """All samples in groups within the bounds, the last one perhaps below them."""
    start = 0
    while start < len(samples):
        left = len(samples) - start
        size = rng.randint(least, most)
        if left - size < least:
            size = left if left <= most else max(least, min(most, left - least))
        yield samples[start : start + size]
        start += size


@dataclass(frozen=True, slots=True)
class Group:
    """Captions in order of the pictures; which pictures look like no other, and which captions could mean no other."""

    captions: tuple[str, ...]
    unlike: tuple[int, ...]
    unmistakable: tuple[int, ...]


def _known(samples: Sequence[Sample], hashed: Mapping[str, int], min_hamming: int) -> Group:
    captions = tuple(map(said.answer, samples))
    words = [said.content(caption) for caption in captions]
    codes = [hashed[sample.media[0].key] for sample in samples]
    every = range(len(samples))
    unlike = [at for at in every if all(at == n or (codes[at] ^ codes[n]).bit_count() > min_hamming for n in every)]
    clear = [
        at
        for at in unlike
        if words[at] and not any(n != at and said.may_mean_one_thing(words[at], words[n]) for n in every)
    ]
    return Group(captions, tuple(unlike), tuple(clear))


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


def _shown(count: int, are_numbered: bool, language: Language) -> list[Part]:
    parts: list[Part] = []
    for number in range(count):
        if are_numbered:
            parts.append(text_part(wording.LABEL[language].format(number + 1)))
        parts.append(image_part(number))
    return [*parts, text_part("\n")]


@dataclass(frozen=True, slots=True)
class Round:
    """A question, its answer, and the pictures that it is about, from 0."""

    question: str
    answer: str
    asked: tuple[int, ...] = ()


def _by_number(rng: random.Random, group: Group, language: Language) -> Round | None:
    if not group.unlike:
        return None
    at = rng.choice(group.unlike)
    question = rng.choice(wording.CAPTION[language]).format(wording.nth(at, language))
    return Round(question, group.captions[at], (at,))


def _from_end(rng: random.Random, group: Group, language: Language) -> Round | None:
    count = len(group.captions)
    at = count - rng.randint(1, 3)
    question = rng.choice(wording.CAPTION[language]).format(wording.from_end(count - at, language))
    return Round(question, group.captions[at], (at,)) if at in group.unlike else None


def _two(rng: random.Random, group: Group, language: Language) -> Round | None:
    if len(group.unlike) < 2:
        return None
    pair = tuple(rng.sample(group.unlike, k=2))
    question = rng.choice(wording.TWO[language]).format(*(wording.nth(at, language) for at in pair))
    return Round(question, "\n".join(group.captions[at] for at in pair), pair)


def _which(rng: random.Random, group: Group, language: Language) -> Round | None:
    if not group.unmistakable:
        return None
    at = rng.choice(group.unmistakable)
    question = rng.choice(wording.WHICH[language]).format(said.plain(group.captions[at]))
    return Round(question, wording.NUMBER[language].format(at + 1), (at,))


def _after(rng: random.Random, group: Group, language: Language) -> Round | None:
    able = [at for at in group.unmistakable if at + 1 < len(group.captions)]
    if not able:
        return None
    at = rng.choice(able)
    question = rng.choice(wording.AFTER[language]).format(said.plain(group.captions[at]))
    return Round(question, group.captions[at + 1], (at,))


def _how_many(rng: random.Random, group: Group, language: Language) -> Round | None:
    return Round(rng.choice(wording.COUNT[language]), str(len(group.captions)))


_ASKS: Mapping[str, Callable[[random.Random, Group, Language], Round | None]] = {
    "number": _by_number,
    "end": _from_end,
    "two": _two,
    "which": _which,
    "after": _after,
    "count": _how_many,
}
