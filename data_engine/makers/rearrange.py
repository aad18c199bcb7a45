"""Caption and question of one picture in one sequence, with the end of text between (Keye-VL-1.5 report, 3.1).

`<image, caption, [eos], question, answer>` and `<image, question, answer, [eos], caption>`: a model that has only ever
seen a picture followed by its caption would answer questions with captions. The caption is a document, the question a
chat; the processor writes `<|endoftext|>` between the two, whichever comes first.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from data_engine.makers import said
from data_engine.making import Made, Maker, Outcome, Tools, Unmade, derived
from data_engine.sample import Message, Sample, document
from data_engine.sources.common import image_part

Form = Literal["caption_first", "question_first"]


class Rearrange(Maker):
    """One sample for each question about a picture that also has a caption in its language.

    `captions`, `questions`: tasks. `forms`: which of the two orders are drawn from.
    """

    captions: tuple[str, ...] = ("caption",)
    questions: tuple[str, ...] = ("vqa", "trap")
    forms: tuple[Form, ...] = Field(default=("caption_first", "question_first"), min_length=1)
    seed: int = 0

    def make(self, samples: Sequence[Sample], tools: Tools) -> Iterator[Outcome]:
        captions: dict[tuple[str, str], list[Sample]] = {}
        for sample in samples:
            key = said.picture_of(sample)
            if sample.task in self.captions and key:
                captions.setdefault((key, said.language_of(said.answer(sample))), []).append(sample)
        for sample in samples:
            if sample.task not in self.questions:
                continue
            rng = random.Random(f"{self.seed}/rearrange/{sample.id}")
            asked = "".join(message.text for message in sample.messages)
            found = captions.get((said.picture_of(sample) or "", said.language_of(asked)), [])
            if not found or not _is_chat(sample):
                reason = "its picture has no caption in its language in this part" if _is_chat(sample) else "not a chat"
                yield Unmade(sample, reason)
                continue
            caption, form = rng.choice(found), rng.choice(self.forms)
            turns = _arranged(said.answer(caption), sample, form)
            made = derived([sample, caption], "rearranged", turns, sample.media, place=form)
            yield Made(made, about={"form": form})


def _is_chat(sample: Sample) -> bool:
    return [message.role for message in sample.messages[:2]] == ["user", "assistant"]


def _arranged(caption: str, sample: Sample, form: Form) -> tuple[Message, ...]:
    if form == "question_first":
        return (*sample.messages, document(caption))
    shown = Message("document", (image_part(), *document(caption).parts))
    return (shown, *map(said.without_media, sample.messages))
