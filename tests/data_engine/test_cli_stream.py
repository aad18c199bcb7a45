"""`keyeforge data mix` and `keyeforge data stream`, as a user calls them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from typer.testing import CliRunner

from data_engine import catalog
from data_engine.cli import app
from data_engine.stream import Stream, ledger


def call(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output.replace("\n", " ")


def manifest(run: Path) -> Path:
    return run / "shards" / "manifest.json"


def test_mix_plans_what_the_run_has_and_others(small_run: Path, tmp_path: Path) -> None:
    data, recipe = tmp_path / "run", tmp_path / "recipe.yaml"
    shutil.copytree(small_run, data, symlinks=True)
    written = yaml.safe_load((small_run / "recipe.yaml").read_text())

    def planned(**changes: Any) -> dict[str, Any]:
        recipe.write_text(yaml.safe_dump({**written, "mixture": {**written["mixture"], **changes}}))
        report: dict[str, Any] = json.loads(call("mix", recipe, "--out", data, "--json"))
        assert report == json.loads((data / "mix/mix.json").read_text())
        assert report["worst_error"] < report["largest_sample"]
        assert report["samples"] == pq.read_metadata(data / "mix/plan.parquet").num_rows
        assert (data / "mix/shares.svg").read_text().count("<svg") == 1
        return report

    own = planned()
    mixed = catalog.steps(data)["mix"]
    assert own == json.loads((mixed / "mix.json").read_text())
    assert pq.read_table(data / "mix/plan.parquet").equals(pq.read_table(mixed / "plan/part-00000.parquet"))
    stream = Stream(manifest(small_run), seed=written["mixture"].get("seed", 0))
    order = [stream.index.id(number) for number in stream.schedule.order()]
    assert pq.read_table(data / "mix/plan.parquet")["id"].to_pylist() == order  # what a trainer will read
    whole = planned(when_out="renormalise")
    pool = pq.read_table(mixed / "pool", columns=["id", "split"])
    train = pool.filter(pc.equal(pool["split"], "train"))["id"].to_pylist()
    assert sorted(pq.read_table(data / "mix/plan.parquet")["id"].to_pylist()) == sorted(train)
    assert whole["samples"] > own["samples"]
    (tmp_path / "repeats.jsonl").write_text(json.dumps({"id": train[0], "repeats": 7}) + "\n")
    planned(when_out="renormalise", repeats=str(tmp_path / "repeats.jsonl"))
    assert pq.read_table(data / "mix/plan.parquet")["id"].to_pylist().count(train[0]) == 7

    recipe.write_text(yaml.safe_dump({**written, "mixture": {"shares": {"image": 1.0}, "weights": {"stamp": 1}}}))
    assert "recipe.yaml: mixture.weights: no corpus 'stamp'" in call("mix", recipe, "--out", data, code=2)
    assert "no run here" in call("mix", recipe, "--out", tmp_path, code=2)


def test_stream_reads_goes_on_and_proves(small_run: Path, tmp_path: Path) -> None:
    first = json.loads(call("stream", manifest(small_run), "--samples", "30", "--record", tmp_path / "l", "--json"))
    assert sum(row["samples"] for row in first["sources"]) == 30
    state = json.dumps(first["state"])
    told = call("stream", manifest(small_run), "--samples", "20", "--state", state, "--record", tmp_path / "l")
    assert "20 samples" in told
    (found,) = json.loads(call("stream", manifest(small_run), "--audit", tmp_path / "l", "--json"))
    assert found["exactly_once"]
    assert found["places"] == 50
    (path,) = (tmp_path / "l").iterdir()
    records = np.fromfile(path, ledger.RECORD)
    records[1:].tofile(path)
    assert "1" in call("stream", manifest(small_run), "--audit", tmp_path / "l", code=1)


def test_stream_says_what_is_wrong(small_run: Path, tmp_path: Path) -> None:
    assert "no manifest" in call("stream", tmp_path / "manifest.json", code=2)
    assert "no ledger" in call("stream", manifest(small_run), "--audit", tmp_path, code=2)
    state = json.dumps({**Stream(manifest(small_run), seed=1).state_dict()})
    assert "differs in seed" in call("stream", manifest(small_run), "--state", state, code=2)
    assert "no shards in split 'test'" in call("stream", manifest(small_run), "--split", "test", code=2)
    assert "--state {: not the JSON" in call("stream", manifest(small_run), "--state", "{", code=2)
