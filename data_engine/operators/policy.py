"""What a run was told about rights, over samples: licences that are refused."""

from typing import ClassVar

import pyarrow as pa

from data_engine.operators.base import Operator
from data_engine.rights import Rights, drop_reasons


class Licence(Operator):
    """Drops samples whose licence the policy refuses. The recipe's `rights` puts it before all other operators."""

    looks_at: ClassVar[tuple[str, ...]] = ("licence",)
    policy: Rights

    def measure(self, batch: pa.Table) -> dict[str, pa.Array]:
        return {"licence": batch["licence"]}

    def decide(self, measures: pa.Table) -> pa.Array:
        return drop_reasons(measures, self.policy)
