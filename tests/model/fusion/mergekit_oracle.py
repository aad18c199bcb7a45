"""Runs in its own process with mergekit's folder in front: mergekit's functions on cases that it is given.

    python mergekit_oracle.py FOLDER_OF_MERGEKIT CASES

CASES holds cases.json, a list of {method, name, parameters, base_index, density}, and inputs.safetensors with
`<name>.<index>`. Written beside them: results.safetensors, `<name>` the merged tensor, and where mergekit draws,
`<name>.mask.<index>` what it kept of each model but the base.
"""

import json
import sys
from pathlib import Path
from typing import Any


def run(case: dict[str, Any], tensors: list[Any]) -> dict[str, Any]:
    import torch
    from mergekit.merge_methods import merge_tensors
    from mergekit.sparsify import bernoulli

    results = {}
    if case["density"] is not None:
        # The method draws one mask after the other from torch's generator, and nothing else.
        torch.manual_seed(0)
        masks = [bernoulli(torch.ones_like(tensor), case["density"]) for tensor in tensors[1:]]
        results = {f"{case['name']}.mask.{index}": mask for index, mask in enumerate(masks)}
        torch.manual_seed(0)
    parameters = {key: _by_place(value) for key, value in case["parameters"].items()}
    merged = merge_tensors(tensors, case["method"], parameters=parameters, base_index=case["base_index"])
    return {**results, case["name"]: merged.contiguous()}


def _by_place(value: Any) -> Any:
    """JSON has only strings for keys."""
    return {int(key): one for key, one in value.items()} if isinstance(value, dict) else value


def main(mergekit: Path, folder: Path) -> None:
    sys.path.insert(0, str(mergekit))
    from safetensors.torch import load_file, save_file

    inputs = load_file(folder / "inputs.safetensors")
    results: dict[str, Any] = {}
    for case in json.loads((folder / "cases.json").read_text()):
        mine = [name for name in inputs if name.rsplit(".", 1)[0] == case["name"]]
        mine.sort(key=lambda name: int(name.rsplit(".", 1)[1]))
        results |= run(case, [inputs[name] for name in mine])
    save_file(results, folder / "results.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
