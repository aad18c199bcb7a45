"""What an operator is: a frozen model whose fields are the recipe's keys, with `measure` and `decide`."""

from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from data_engine.media import MediaStore
from data_engine.runners.needs import MEDIA, Needs
from strict_yaml import Strict


class Operator(Strict):
    """A pair of pure functions over Arrow columns.

    `measure(batch)` returns columns that no threshold touches; `decide(measures)` looks at the columns in
    `looks_at` and returns one reason per row, null where the sample is kept. Fields that change a measure are
    named in `measured_by`: only they make the measures be computed anew. An operator that must open the media
    says `needs_media` and has `measure_media` instead of `measure`: it runs on Ray, where models stay loaded.
    What an operator with a `route` refuses is not dropped but put into the queue of that name, for another job.
    """

    looks_at: ClassVar[tuple[str, ...]] = ()
    measured_by: ClassVar[tuple[str, ...]] = ()
    needs_media: ClassVar[bool] = False

    @property
    def route(self) -> str | None:
        """The queue that samples go to which this operator does not keep; None: they are dropped."""
        return None

    def require(self) -> None:
        """Raises RecipeError where a model or tool that it measures with is missing; deciding needs none."""

    def needs(self) -> Needs:
        """What a worker takes that measures with it: its models above all."""
        return MEDIA

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        """New columns for a batch (the columns of `describe.describe`). Default: none needed."""
        return {}

    def measure_media(self, batch: pa.Table, store: MediaStore) -> dict[str, pa.Array]:
        """As `measure`, with the media at hand."""
        return {}

    def decide(self, measures: pa.Table) -> pa.Array:
        """A string per row: why it is dropped, or null."""
        raise NotImplementedError


def reasons(*rules: tuple[pa.Array, str]) -> pa.Array:
    """The first rule that holds names the reason; null where none does. A null measure breaks no rule."""
    result = pa.nulls(len(rules[0][0]), pa.string())
    for broken, reason in reversed(rules):
        result = pc.if_else(pc.fill_null(broken, False), pa.scalar(reason), result)
    return result
