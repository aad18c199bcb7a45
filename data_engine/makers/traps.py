"""Trap questions: about what is not in a picture, or is there otherwise, with as many whose answer is yes.

The Keye-VL-1.5 report asks for questions on non-existent or contradictory content that ground answers in pixels. What
is absent must be known to be: of a captioned picture a thing of another category of the taxonomy that shares no word,
part of a word or group of synonyms with its caption; of an annotated one a category of the data set that is not
annotated there; of a text one that does not contain it. Every question comes with its twin of the other answer.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from data_engine import grounding
from data_engine.makers import said
from data_engine.makers.trap_wording import FORMS
from data_engine.making import Made, Maker, Outcome, Tools, Unmade, derived
from data_engine.sample import Sample, assistant, user
from data_engine.sources.common import image_part
from data_engine.synthesis.wording import Language
from data_engine.words import folded_text

DRAWS = 40
"""So many other samples are looked at for something absent before a sample is given up."""


@dataclass(frozen=True, slots=True)
class Trap:
    """One form of question about a sample: what is asked in vain, what is asked rightly, and what is there."""

    form: str
    false: str
    true: str
    truth: str
    thing: str = ""


class Traps(Maker):
    """Two questions a sample, one to be answered with yes and one with no; samples of other tasks are left alone.

    `captions`, `grounding`, `texts`: tasks by what their answers are. `levels`: how many folders of a captioned
    sample's origin make its category; `categories`: the only ones of which absent things are taken (none named: all).
    """

    captions: tuple[str, ...] = ("caption",)
    grounding: tuple[str, ...] = ("grounding",)
    texts: tuple[str, ...] = ("ocr",)
    levels: int = Field(default=1, ge=1)
    categories: tuple[str, ...] = ()
    seed: int = 0

    def make(self, samples: Sequence[Sample], tools: Tools) -> Iterator[Outcome]:
        captioned = [sample for sample in samples if sample.task in self.captions]
        written = [sample for sample in samples if sample.task in self.texts]
        marked = _marked([sample for sample in samples if sample.task in self.grounding])
        for sample in samples:
            rng = random.Random(f"{self.seed}/traps/{sample.id}")
            if said.picture_of(sample) is None and sample.task in {*self.captions, *self.grounding, *self.texts}:
                yield Unmade(sample, "traps need a sample with exactly one picture")
            elif sample.task in self.captions:
                yield from self._twins(sample, self._of_caption(rng, sample, captioned), rng)
            elif sample.task in self.texts:
                yield from self._twins(sample, _of_text(rng, sample, written), rng)
            elif sample.task in self.grounding:
                yield from self._twins(sample, _of_marks(rng, sample, marked), rng)

    def _twins(self, sample: Sample, traps: Sequence[Trap], rng: random.Random) -> Iterator[Outcome]:
        if not traps:
            yield Unmade(sample, "nothing in this part is known to be absent from its picture")
            return
        trap = rng.choice(traps)
        form = FORMS[trap.form][said.language_of("".join(message.text for message in sample.messages))]
        for number, asked in enumerate((trap.false, trap.true)):
            words = {"asked": asked, "truth": trap.truth, "thing": trap.thing}
            question = rng.choice(form.asks).format(**words)
            reply = rng.choice(form.yes if number else form.no).format(**words)
            turns = (user(image_part(), question), assistant(reply))
            made = derived([sample], "trap", turns, sample.media, place=f"trap={number}")
            yield Made(made, about={"form": trap.form, "answer": "yes" if number else "no"})

    def _of_caption(self, rng: random.Random, sample: Sample, others: Sequence[Sample]) -> list[Trap]:
        """A contradiction of what the caption says of its thing, where it says so; else something absent."""
        caption = said.answer(sample)
        for form, trait in (("colour", said.colour(caption)), ("number", said.number(caption))):
            if trait and rng.random() < 0.5:
                return [Trap(form, rng.choice(trait.others), trait.value, trait.value, trait.thing)]
        absent = self._absent(rng, sample, others)
        if absent is None:
            return []
        own, other = said.thing(caption), said.thing(absent)
        if own and other and rng.random() < 0.8:
            return [Trap("exists", other, own, own)]
        return [Trap("fits", said.plain(absent), said.plain(caption), said.plain(caption))]

    def _absent(self, rng: random.Random, sample: Sample, others: Sequence[Sample]) -> str | None:
        """The caption of a picture of another category, in the same language, that could not be this one's."""
        words = said.content(said.answer(sample))
        language = said.language_of(said.answer(sample))
        for other in rng.choices(others, k=DRAWS):
            caption, category = said.answer(other), self._category(other)
            if category == self._category(sample) or (self.categories and category not in self.categories):
                continue
            theirs = said.content(caption)
            if theirs and said.language_of(caption) == language and not said.may_mean_one_thing(words, theirs):
                return caption
        return None

    def _category(self, sample: Sample) -> str:
        return "/".join(sample.origin.split("/")[:-1][: self.levels])


def _marked(samples: Sequence[Sample]) -> Mapping[str, Counter[str]]:
    """Per picture how many objects of which name its samples mark."""
    found: dict[str, Counter[str]] = {}
    for sample in samples:
        shapes, faults = grounding.parse(said.answer(sample))
        labels = [shape.label.text for shape in shapes if not isinstance(shape, grounding.Clip) and shape.label]
        key = said.picture_of(sample)
        if key and labels and not faults:
            found.setdefault(key, Counter()).update(labels)
    return found


def _of_marks(rng: random.Random, sample: Sample, marked: Mapping[str, Counter[str]]) -> list[Trap]:
    """A category of other pictures' that is not marked on this one, and a wrong number of one that is."""
    here = marked.get(said.picture_of(sample) or "", Counter())
    if not here:
        return []
    words = [said.content(name) for name in here]
    known = sorted({name for counter in marked.values() for name in counter} - set(here))
    absent = [name for name in known if not any(said.may_mean_one_thing(said.content(name), own) for own in words)]
    name = rng.choice(sorted(here))
    count = here[name]
    wrong = rng.choice([number for number in range(max(1, count - 3), count + 4) if number != count])
    traps = [Trap("marked_number", str(wrong), str(count), str(count), name)]
    if absent:
        traps.append(Trap("marked", rng.choice(absent), name, ", ".join(sorted(here))))
    return traps


def _of_text(rng: random.Random, sample: Sample, others: Sequence[Sample]) -> list[Trap]:
    """A word of another text that is not in this one; a line of this one with one of its words exchanged."""
    text = said.answer(sample)
    language = said.language_of(text)
    present = _words(text, language)
    absent = ""
    for other in rng.choices(others, k=DRAWS):
        theirs = said.answer(other)
        if said.language_of(theirs) == language and (words := _words(theirs, language)):
            word = rng.choice(words)
            if _squeezed(word) not in _squeezed(text):
                absent = word
                break
    if not absent or not present:
        return []
    shown = rng.choice(present)
    line = next((one for one in text.split("\n") if shown in one), "")
    if not line:
        return []
    return [Trap("written", absent, shown, line), Trap("reads", line.replace(shown, absent, 1), line, line)]


def _words(text: str, language: Language) -> list[str]:
    """Words of four letters or more; in Chinese pairs of characters."""
    if language == "en":
        return [word for word in text.split() if len(word) >= 4 and word.isalpha()]
    runs = ["".join(char for char in line if "\u4e00" <= char <= "\u9fff") for line in text.split("\n")]
    return [run[at : at + 2] for run in runs for at in range(0, len(run) - 1, 2)]


def _squeezed(text: str) -> str:
    return "".join(folded_text(text).split())
