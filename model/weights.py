"""Folders of safetensors, read and written tensor by tensor: an 8B model is never in memory whole.

The layout is transformers': `model.safetensors`, or `model.safetensors.index.json` and its shards.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
CHECKSUMS = "checksums.json"

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The format's names of types."""


class WeightsError(ValueError):
    """Weights that cannot be read or written: the message names the folder or file, the tensor and the fix."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What a file's header says about a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]


class Weights:
    """The tensors of a folder. Only headers are held; `read` brings a tensor, or some of its rows, from disk."""

    def __init__(self, folder: Path, shards: dict[str, Path], infos: dict[str, TensorInfo]) -> None:
        self.folder = folder
        self.names = sorted(infos)
        self._shards = shards
        self._infos = infos

    @classmethod
    def open(cls, folder: Path) -> "Weights":
        """Reads the headers. Raises WeightsError for a missing or broken file, or one that its index belies."""
        single, index = folder / SINGLE, folder / INDEX
        if single.is_file() and index.is_file():
            raise WeightsError(f"{folder}: has both {SINGLE} and {INDEX}; remove the one that is not the model's")
        if single.is_file():
            infos = _read_header(single)
            return cls(folder, dict.fromkeys(infos, single), infos)
        if not index.is_file():
            raise WeightsError(f"{folder}: has neither {SINGLE} nor {INDEX}; give a folder with safetensors weights")
        return cls(folder, *_read_index(index))

    def info(self, name: str) -> TensorInfo:
        """Type and shape of a tensor. Raises WeightsError when there is none of that name."""
        if name not in self._infos:
            raise WeightsError(f"{self.folder}: has no tensor {name!r}")
        return self._infos[name]

    def read(self, name: str, rows: slice | None = None) -> Tensor:
        """A tensor, or only `rows` of its first axis, in its stored type. Raises WeightsError."""
        self.info(name)
        try:
            # Opened for each tensor: a mapping kept open would keep every page that was ever read.
            with safe_open(self._shards[name], framework="pt") as file:
                if rows is None:
                    return file.get_tensor(name)  # type: ignore[no-any-return]
                return file.get_slice(name)[rows]  # type: ignore[no-any-return]
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{self._shards[name]}: {name}: cannot be read: {_one_line(error)}") from error


def _read_header(file: Path) -> dict[str, TensorInfo]:
    try:
        with safe_open(file, framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  (no dictionary: it cannot be iterated)
            headers = {name: (str(one.get_dtype()), tuple(one.get_shape())) for name, one in slices.items()}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{file}: broken or cut short ({_one_line(error)}); copy or write it again") from error
    for name, (dtype, _) in headers.items():
        if dtype not in DTYPES:
            raise WeightsError(f"{file}: {name}: type {dtype} is not supported; known: {', '.join(DTYPES)}")
    return {name: TensorInfo(DTYPES[dtype], shape) for name, (dtype, shape) in headers.items()}


def _read_index(index: Path) -> tuple[dict[str, Path], dict[str, TensorInfo]]:
    """Where each tensor lies and what it is; the index and the shards must name the same tensors."""
    try:
        named: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{index}: not an index (needs the key weight_map): {_one_line(error)}") from error
    infos: dict[str, TensorInfo] = {}
    for shard in sorted(set(named.values())):
        file = index.parent / shard
        if not file.is_file():
            raise WeightsError(f"{index}: names the shard {shard}, which is missing; copy it into {index.parent}")
        header = _read_header(file)
        expected = {name for name, where in named.items() if where == shard}
        for name in sorted(expected ^ header.keys()):
            fault = "which the index does not place there" if name in header else "is not in it, as the index says"
            raise WeightsError(f"{file}: tensor {name!r}: {fault}; write the folder again")
        infos |= header
    return {name: index.parent / shard for name, shard in named.items()}, infos


class WeightsWriter:
    """Writes tensors into shards of at most `max_shard_bytes` (a larger tensor has one to itself).

    Until `close`, the folder holds only hidden files, which no reader takes for weights.
    """

    def __init__(self, folder: Path, max_shard_bytes: int = 2 << 30) -> None:
        """Raises WeightsError when the folder already holds weights."""
        if any((folder / name).exists() for name in (SINGLE, INDEX)):
            raise WeightsError(f"{folder}: already holds weights; choose another folder or remove them")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._max_shard_bytes = max_shard_bytes
        self._pending: dict[str, Tensor] = {}
        self._shard_of: dict[str, int] = {}
        self._checksums: dict[str, str] = {}
        self._num_shards = 0
        self._total_bytes = 0

    def add(self, name: str, tensor: Tensor) -> None:
        """Takes a tensor. It must not be changed before `close`. Raises WeightsError for a name given twice."""
        if name in self._checksums:
            raise WeightsError(f"{self._folder}: tensor {name!r} was added twice")
        tensor = _own(tensor.detach().cpu().contiguous(), self._pending)
        if self._pending and self._pending_bytes() + tensor.nbytes > self._max_shard_bytes:
            self._flush()
        self._pending[name] = tensor
        self._checksums[name] = checksum(tensor)
        self._total_bytes += tensor.nbytes
        if self._pending_bytes() >= self._max_shard_bytes:
            self._flush()

    def close(self) -> None:
        """Writes what is left, gives the shards their names, and last of all the index that makes them a model."""
        if self._pending or not self._num_shards:
            self._flush()
        (self._folder / CHECKSUMS).write_text(json.dumps(self._checksums, indent=1, sort_keys=True), encoding="utf-8")
        if self._num_shards == 1:
            self._part(1).rename(self._folder / SINGLE)
            return
        for shard in range(1, self._num_shards + 1):
            self._part(shard).rename(self._folder / self._shard_name(shard))
        weight_map = {name: self._shard_name(shard) for name, shard in sorted(self._shard_of.items())}
        index = {"metadata": {"total_size": self._total_bytes}, "weight_map": weight_map}
        hidden = self._folder / f".{INDEX}"
        hidden.write_text(json.dumps(index, indent=2), encoding="utf-8")
        hidden.rename(self._folder / INDEX)

    def _flush(self) -> None:
        self._num_shards += 1
        save_file(self._pending, self._part(self._num_shards), metadata={"format": "pt"})
        self._shard_of |= dict.fromkeys(self._pending, self._num_shards)
        self._pending = {}

    def _pending_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._pending.values())

    def _part(self, shard: int) -> Path:
        return self._folder / f".part-{shard:05d}.safetensors"

    def _shard_name(self, shard: int) -> str:
        return f"model-{shard:05d}-of-{self._num_shards:05d}.safetensors"


def checksum(tensor: Tensor) -> str:
    """SHA-256 of a tensor's values as they are stored."""
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(raw.numpy().data).hexdigest()


def verify(folder: Path) -> None:
    """Reads every tensor again. Raises WeightsError naming the first that `checksums.json` does not vouch for."""
    weights = Weights.open(folder)
    try:
        expected: dict[str, str] = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{folder}: no readable {CHECKSUMS}; only folders written here can be verified") from error
    for name in sorted({*weights.names, *expected}):
        if name not in expected or name not in weights.names:
            where = CHECKSUMS if name not in expected else "weights"
            raise WeightsError(f"{folder}: tensor {name!r} is missing from its {where}; write the folder again")
        if checksum(weights.read(name)) != expected[name]:
            raise WeightsError(f"{folder}: tensor {name!r} differs from its checksum; copy or write the folder again")


def _own(tensor: Tensor, others: dict[str, Tensor]) -> Tensor:
    """The tensor itself when its memory is its own, else a copy: the format has no views and no ties."""
    storage = tensor.untyped_storage()
    shared = any(other.untyped_storage().data_ptr() == storage.data_ptr() for other in others.values())
    return tensor.clone() if shared or storage.nbytes() != tensor.nbytes else tensor


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
