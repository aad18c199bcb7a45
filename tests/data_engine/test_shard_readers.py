"""Shards as other readers see them: webdataset, wids by our manifest, and megatron-energon where it is installed."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from data_engine import shard_index, tar_blocks
from data_engine.stream.shard_reader import ShardReader
from tests.data_engine.small_shards import write

ENERGON = Path(__file__).parents[2] / "build/peers/energon/bin"
MINE = ("__key__", "__url__", "__local_path__", "__dataset__", "__index__", "__shard__", "__shardindex__")
SPLITS = ("train", "heldout")

Members = dict[str, bytes]


def ours(folder: Path, split: str) -> list[Members]:
    """The members of every sample in the order of the index, by suffix."""
    reader = ShardReader(str(folder), split)
    blocks = reader.blocks(np.arange(len(reader.index)))
    return [{suffix: bytes(data) for suffix, data in tar_blocks.parse(block)} for block in blocks]


def bare(sample: dict[str, Any]) -> Members:
    """A sample of another reader without what it adds; wids has a dot before each suffix."""
    found = {name.removeprefix("."): value for name, value in sample.items() if name not in MINE}
    return {name: value.read() if hasattr(value, "read") else value for name, value in found.items()}


@pytest.fixture(params=["small", "real"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "small":
        return write(tmp_path)
    run: Path = request.getfixturevalue("small_run")
    return run / "shards"


@pytest.mark.parametrize("split", SPLITS)
def test_webdataset_groups_the_same_samples(folder: Path, split: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    urls = [str(folder / entry["file"]) for entry in manifest["splits"][split]]
    read = [bare(sample) for sample in webdataset.WebDataset(urls, shardshuffle=False)]
    assert read == ours(folder, split) and read


def test_wids_finds_every_sample_by_our_manifest(folder: Path) -> None:
    wids = pytest.importorskip("wids", reason="wids is not installed: pip install wids")
    data = wids.ShardListDataset(str(folder / "manifest.json"), transformations=[])
    mine = ours(folder, "train")
    assert len(data) == len(mine)
    for number in np.random.default_rng(0).permutation(len(data)).tolist():
        assert bare(data[number]) == mine[number]


def test_energon_prepares_and_reads_them(folder: Path, tmp_path: Path) -> None:
    if not (ENERGON / "energon").exists():
        pytest.skip("megatron-energon is not installed: `python benchmarks/shards.py` makes its environment")
    script = Path(__file__).parents[2] / "benchmarks/peers/energon_prepare.py"
    out = tmp_path / "energon.json"
    command = [ENERGON / "python", script, out, folder, tmp_path / "copy"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[-2000:]
    found = json.loads(out.read_text())
    index = shard_index.read(folder / "train.index.arrow")
    assert found["ids"] == [index.id(number) for number in range(len(index))]
    assert found["members"] == [sorted(sample) for sample in ours(folder, "train")]
