"""What a run was told about rights, over samples: licences that are refused, and what was removed for good."""

from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from data_engine.operators.base import Operator
from data_engine.rights import Rights, drop_reasons
from data_engine.tombstones import read, tombstoned


class Licence(Operator):
    """Drops samples whose licence the policy refuses. The recipe's `rights` puts it before all other operators."""

    looks_at: ClassVar[tuple[str, ...]] = ("licence",)
    policy: Rights

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        return {"licence": batch["licence"]}

    def decide(self, measures: pa.Table) -> pa.Array:
        return drop_reasons(measures, self.policy)


class Tombstone(Operator):
    """Drops what was removed for good from this run or from those it is held `against`; the chain puts it first.

    `seen` is a hash of the tombstones: with new ones the verdicts are made anew.
    """

    looks_at: ClassVar[tuple[str, ...]] = ("id", "content_key", "media_keys", "origin")
    folders: tuple[str, ...]
    seen: str = ""

    def decide(self, measures: pa.Table) -> pa.Array:
        return tombstoned(measures, read(Path(folder) for folder in self.folders))
