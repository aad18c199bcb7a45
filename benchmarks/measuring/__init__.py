"""Figures kept as JSON, from which tables are written."""

import json
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "build/bench"


def save(name: str, figures: dict[str, Any]) -> None:
    """Writes build/bench/<name>.json with the day."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    dated = {"date": time.strftime("%Y-%m-%d"), **figures}
    (FOLDER / f"{name}.json").write_text(json.dumps(dated, indent=1, ensure_ascii=False) + "\n")
