"""The peers beside which benchmarks measure: each in an environment of its own, made once, run as a process.

Beside this module lies one script per peer and task. Each is called with paths and settings and writes one JSON
file with its CPU-seconds and its answer; it knows nothing of this project.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))
from tools import setup_env  # noqa: E402

HOME = ROOT / "build/peers"
PINS = {
    "rensa": ("rensa==0.5.0", "pyarrow==26.0.0"),
    "data_juicer": ("py-data-juicer==1.6.1", "aiohttp==3.14.5"),  # imported, but not among its requirements
    "datatrove": ("datatrove[processing,io,cli]==0.10.1", "spacy==3.8.18", "jieba==0.42.1"),  # its extra lacks two
    "streaming": ("mosaicml-streaming==0.13.0", "torch==2.13.0"),
    "litdata": ("litdata==0.2.76", "torch==2.13.0"),
    "webdataset": ("webdataset==1.0.2", "pillow==13.0.0"),
    "label_studio": ("label-studio==1.23.2",),
    "energon": ("megatron-energon==7.4.1", "torch==2.13.0"),
}


def python(name: str) -> Path:
    """The interpreter of a peer's environment; made now if it is not there as pinned. Exits if it cannot be made."""
    home, pins = HOME / name, PINS[name]
    found, stamp = home / "bin/python", home / "pins.json"
    if stamp.exists() and json.loads(stamp.read_text()) == list(pins):
        return found
    print(f"installing {', '.join(pins)} into {home.relative_to(ROOT)}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
    uv = setup_env.find_uv()
    command = [uv, "pip", "install", "-q", "--python", str(found)] if uv else [str(found), "-m", "pip", "install", "-q"]
    subprocess.run([*command, *pins], env=setup_env.uv_environment(), check=True)
    stamp.write_text(json.dumps(pins))
    return found


def run(name: str, script: str, out: Path, *arguments: str | Path) -> dict[str, Any]:
    """What the peer's script wrote to `out`. Its own log goes beside it. Exits with the log's end if it fails."""
    log = out.with_suffix(".log")
    command = [python(name), Path(__file__).with_name(script), out, *arguments]
    with log.open("wb") as target:
        done = subprocess.run([str(part) for part in command], stdout=target, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit(f"{script} of {name} failed; the end of {log}:\n{log.read_text(errors='replace')[-2000:]}")
    found: dict[str, Any] = json.loads(out.read_text())
    return found
