"""Safetensors folders: what is written is read back bit for bit, and what is broken is named."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.modeling import KeyeForConditionalGeneration
from model.weights import TensorInfo, Weights, WeightsError, WeightsWriter, verify


def some_tensors() -> dict[str, Tensor]:
    return {
        "a.weight": torch.randn(6, 4),
        "b.weight": torch.randn(6, 4).bfloat16(),
        "c.bias": torch.arange(5),
        "d.scalar": torch.tensor(2.5),
        "e.empty": torch.empty(0, 3),
        "f.mask": torch.tensor([True, False]),
    }


def write(folder: Path, tensors: dict[str, Tensor], max_shard_bytes: int = 2 << 30) -> Path:
    writer = WeightsWriter(folder, max_shard_bytes)
    for name, tensor in tensors.items():
        writer.add(name, tensor)
    writer.close()
    return folder


@pytest.mark.parametrize(("max_shard_bytes", "num_shards"), [(2 << 30, 1), (90, 3), (1, 6)])
def test_what_is_written_is_read_back(tmp_path: Path, max_shard_bytes: int, num_shards: int) -> None:
    tensors = some_tensors()
    weights = Weights.open(write(tmp_path / "model", tensors, max_shard_bytes))
    assert len(list((tmp_path / "model").glob("model*.safetensors"))) == num_shards
    assert weights.names == sorted(tensors)
    for name, tensor in tensors.items():
        assert weights.info(name) == TensorInfo(tensor.dtype, tuple(tensor.shape))
        assert torch.equal(weights.read(name), tensor)
    verify(tmp_path / "model")


def test_rows_are_those_rows(tmp_path: Path) -> None:
    tensors = some_tensors()
    weights = Weights.open(write(tmp_path / "model", tensors))
    assert torch.equal(weights.read("a.weight", slice(2, 5)), tensors["a.weight"][2:5])
    assert torch.equal(weights.read("c.bias", slice(0, 9)), tensors["c.bias"])


def test_files_are_named_as_transformers_names_them(tmp_path: Path) -> None:
    tensors = some_tensors()
    folder = write(tmp_path / "model", tensors, 90)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
    assert sorted(index["weight_map"]) == sorted(tensors)
    for shard in set(index["weight_map"].values()):
        assert shard.endswith("-of-00003.safetensors")
        assert all(index["weight_map"][name] == shard for name in load_file(folder / shard))


def test_transformers_reads_the_shards(tmp_path: Path, model: KeyeForConditionalGeneration) -> None:
    model.save_pretrained(tmp_path / "whole")
    whole = Weights.open(tmp_path / "whole")
    folder = write(tmp_path / "shards", {name: whole.read(name) for name in whole.names}, 200_000)
    (folder / "config.json").write_bytes((tmp_path / "whole/config.json").read_bytes())
    assert len(list(folder.glob("*.safetensors"))) > 3
    loaded, report = KeyeForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    state = model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())


def test_views_and_tied_tensors_are_written_in_full(tmp_path: Path) -> None:
    whole = torch.randn(6, 4)
    folder = write(tmp_path / "model", {"q": whole[:2], "t": whole.T, "k": whole[2:], "one": whole, "two": whole})
    weights = Weights.open(folder)
    assert torch.equal(torch.cat([weights.read("q"), weights.read("k")]), whole)
    assert torch.equal(weights.read("t").T, whole) and torch.equal(weights.read("two"), whole)


def test_a_folder_is_no_model_until_it_is_closed(tmp_path: Path) -> None:
    writer = WeightsWriter(tmp_path / "model", 1)
    writer.add("a", torch.ones(3))
    with pytest.raises(WeightsError, match="neither"):
        Weights.open(tmp_path / "model")
    writer.close()
    with pytest.raises(WeightsError, match="already holds weights"):
        WeightsWriter(tmp_path / "model")


def test_a_name_comes_once(tmp_path: Path) -> None:
    writer = WeightsWriter(tmp_path / "model", 1)
    writer.add("a", torch.ones(3))
    with pytest.raises(WeightsError, match="'a' was added twice"):
        writer.add("a", torch.ones(3))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", some_tensors(), 90)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(WeightsError, match="model-00002-of-00003"):
        Weights.open(folder)


def test_an_index_that_names_too_much_or_too_little_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", some_tensors(), 90)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    shard = index["weight_map"]["a.weight"]
    path.write_text(json.dumps({"weight_map": {**index["weight_map"], "ghost": shard}}))
    with pytest.raises(WeightsError, match="'ghost'"):
        Weights.open(folder)
    del index["weight_map"]["f.mask"]
    path.write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=r"'f\.mask'"):
        Weights.open(folder)


@pytest.mark.parametrize("bytes_left", [4, 40, -3])
def test_a_truncated_file_is_named(tmp_path: Path, bytes_left: int) -> None:
    folder = write(tmp_path / "model", some_tensors())
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:bytes_left])
    with pytest.raises(WeightsError, match=r"model\.safetensors: broken or cut short"):
        Weights.open(folder)


def test_one_flipped_bit_is_found(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", {"a": torch.zeros(8), "b": torch.zeros(8)})
    file = folder / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-5] ^= 1
    file.write_bytes(raw)
    with pytest.raises(WeightsError, match="'b' differs from its checksum"):
        verify(folder)


def test_a_tensor_too_many_is_found(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", {"a": torch.zeros(8)})
    save_file({"a": torch.zeros(8), "b": torch.zeros(8)}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"'b' is missing from its checksums\.json"):
        verify(folder)


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no tensor 'x'"):
        Weights.open(write(tmp_path / "model", some_tensors())).read("x")
