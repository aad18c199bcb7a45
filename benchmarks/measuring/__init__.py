"""What benchmarks share: CPU-seconds, and figures kept as JSON for `make bench`'s readers."""

import json
import resource
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def cpu_seconds() -> float:
    """User and system time of this process and of its children that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def save(name: str, figures: dict[str, Any]) -> None:
    """Writes build/bench/<name>.json with the day."""
    target = ROOT / "build/bench" / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), **figures}, indent=1, ensure_ascii=False) + "\n")
