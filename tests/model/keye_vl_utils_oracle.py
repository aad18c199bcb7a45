"""Runs in its own process: what keye-vl-utils 1.5.2 makes of videos, as JSON lines, and what that cost it.

    python keye_vl_utils_oracle.py FOLDER_WITH_THE_PACKAGE VIDEO...

The package imports torchvision and uses nothing of it for videos: an empty module saves its download.
"""

import json
import resource
import sys
from types import ModuleType
from typing import Any


def package(folder: str) -> Any:
    """The package's module of video functions."""
    for name in ("torchvision", "torchvision.io", "torchvision.transforms"):
        sys.modules[name] = ModuleType(name)
    vision: Any = sys.modules["torchvision"]
    vision.io, vision.transforms = sys.modules["torchvision.io"], sys.modules["torchvision.transforms"]
    vision.transforms.InterpolationMode = None
    sys.path.insert(0, folder)
    from keye_vl_utils import vision_process

    return vision_process


def describe(module: Any, path: str) -> dict[str, Any]:
    """Its sampled frames, times, labels and sizes of one video, and each frame's similarity to the latest slow one."""
    similar: list[float] = [0.0]
    measure = module.get_frame_sim

    def recorded(*frames: Any) -> Any:
        similar.append(measure(*frames))
        return similar[-1]

    indices: list[int] = []
    choose = module.torch.linspace

    def noted(*bounds: Any) -> Any:
        found = choose(*bounds)
        indices.extend(found.round().long().tolist())
        return found

    module.get_frame_sim, module.torch.linspace = recorded, noted
    try:
        _, about = module.fetch_video({"video": path})
    finally:
        module.get_frame_sim, module.torch.linspace = measure, choose
    return {
        "indices": indices,
        "times": about["timestamps"].tolist(),
        "is_slow": [kind == 0 for kind in about["frame_types"].tolist()],
        "similarity": similar,
        "slow": [about["height"], about["width"]],
        "fast": [about["fast_height"], about["fast_width"]],
    }


if __name__ == "__main__":
    module = package(sys.argv[1])
    for path in sys.argv[2:]:
        found = describe(module, path)
        used = resource.getrusage(resource.RUSAGE_SELF)
        cost = {"cpu_s": used.ru_utime + used.ru_stime, "peak_kb": used.ru_maxrss}
        print(json.dumps({**found, **cost}), flush=True)
