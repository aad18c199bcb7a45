"""What an operator is: a frozen model whose fields are the recipe's keys, with `measure` and `decide`."""

from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from strict_yaml import Strict


class Operator(Strict):
    """A pair of pure functions over Arrow columns.

    `measure(batch)` returns columns that no threshold touches; `decide(measures)` looks at the columns in
    `looks_at` and returns one reason per row, null where the sample is kept. Fields that change a measure are
    named in `measured_by`: only they make the measures be computed anew.
    """

    looks_at: ClassVar[tuple[str, ...]] = ()
    measured_by: ClassVar[tuple[str, ...]] = ()

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        """New columns for a batch (id, task, text, target, media and OCR columns). Default: none needed."""
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
