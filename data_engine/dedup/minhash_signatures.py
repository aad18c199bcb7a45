"""MinHash signatures of all parts: those of an earlier release are its own, where they were made alike."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from data_engine import code_version, tables
from data_engine.curation import Curation
from data_engine.dedup import minhash_kernels as kernels
from data_engine.dedup.rows import Part, Rows
from data_engine.describe import SPOKEN, Turns
from data_engine.media import write_atomic
from data_engine.words import tables as word_tables
from data_engine.words import text_buffers

if TYPE_CHECKING:
    from data_engine.dedup.minhash import MinHash

Ints = npt.NDArray[np.int64]
NOTE = "signatures.json"


def sign(text: pa.Array, pictures: npt.NDArray[np.uint64], config: "MinHash") -> npt.NDArray[np.uint64]:
    """Bucket hashes [N, bands] of texts; 0 where a text has no word. `pictures` are mixed into every bucket."""
    data, offsets = text_buffers(text)
    bands, rows = config.layout
    factors, terms = _permutations(config.permutations)
    signed: npt.NDArray[np.uint64] = kernels.sign(
        data, offsets, pictures, *word_tables(), config.ngram, bands, rows, factors, terms
    )
    return signed


@functools.cache
def _permutations(count: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Odd factors and terms of the permutations x -> factor * x + term of 32-bit numbers, always the same."""
    random = np.random.default_rng(20250902)
    factors, terms = random.integers(0, 2**32, (2, count), dtype=np.uint32)
    return factors | np.uint32(1), terms


def sign_parts(rows: Rows, config: "MinHash", this: Curation, folder: Path, scratch: Path) -> list[Path]:
    """A table of bucket hashes per part, in order.

    This run's own stay in `folder`, with a note on how they were made, for later releases. An earlier release's are
    taken from its own pass; texts are signed again only where the note differs or rows were removed since.
    """
    made = how_made(config)
    earlier, found = [part for part in rows.parts if part.earlier], []
    own = rows.parts[len(earlier) :]
    for name, parts, out in (("earlier signatures", earlier, scratch / "earlier"), ("signatures", own, folder)):
        if parts:
            units = pa.table({"part": pa.array(range(len(parts)), pa.int32())})
            work = functools.partial(_sign_partition, parts=parts, config=config, made=made)
            this.partitions(f"minhash {name}", work, units, 1, out, "spark")
            found += tables.parts(out / "signatures")
    write_atomic(folder / NOTE, json.dumps({"made": made}).encode())
    return found


def how_made(config: "MinHash") -> str:
    """A hash of all that a signature depends on besides the text: settings and code, the tables of letters with it."""
    settings = [config.ngram, config.permutations, config.layout, config.text]
    return xxhash.xxh3_128_hexdigest(json.dumps([settings, code_version.fingerprint([__name__])]).encode())


def _sign_partition(units: pa.Table, *, parts: Sequence[Part], config: "MinHash", made: str) -> dict[str, pa.Table]:
    part = parts[units["part"][0].as_py()]
    reused = _signed_before(part, made)
    if reused is not None:
        return {"signatures": reused}
    signed = sign(texts_of(part, config), pictures_of(part), config)
    return {"signatures": pa.table({f"b{band:02d}": signed[:, band] for band in range(signed.shape[1])})}


def _signed_before(part: Part, made: str) -> pa.Table | None:
    """The signatures that an earlier release's pass left of the rows it kept, if they are there and made alike."""
    if part.signed is None or not (part.signed / NOTE).exists():
        return None
    file = part.signed / "signatures" / part.samples.name
    if json.loads((part.signed / NOTE).read_bytes())["made"] != made or not file.exists():
        return None
    verdicts = part.samples.parents[1] / "verdicts" / part.samples.name
    kept = pc.equal(pq.read_table(verdicts, columns=["status"])["status"], "kept")
    found = pq.read_table(file)
    if len(found) != len(kept) or pc.sum(kept).as_py() != tables.num_rows(part.samples):
        return None
    return found.filter(kept)


def texts_of(part: Part, config: "MinHash", rows: Ints | None = None) -> pa.Array:
    """The texts that are compared, of all rows of a part or of some."""
    messages = pq.read_table(part.samples, columns=["messages"])["messages"]
    turns = Turns(messages if rows is None else messages.take(pa.array(rows)))
    return turns.joined(None if config.text == "all" else SPOKEN)


def pictures_of(part: Part) -> npt.NDArray[np.uint64]:
    """A hash per row of the pictures it shows."""
    keys = pc.binary_join(pq.read_table(part.measures, columns=["media_keys"])["media_keys"], ",")
    codes = pc.dictionary_encode(keys.combine_chunks())
    hashes = [xxhash.xxh3_64_intdigest(key.encode()) for key in codes.dictionary.to_pylist()]
    shown: npt.NDArray[np.uint64] = np.array(hashes, np.uint64)[codes.indices.to_numpy(zero_copy_only=False)]
    return shown
