"""The mini-benchmark: per kind of question the model, the same questions on blank pictures, and chance; examples."""

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from data_engine.report.html import NotRunError, data_uri, read_json, templates

HERE = Path(__file__).parent
MISSING = "not run yet: keyeforge eval run eval/recipes/demo.yaml --data DIR, with the task minibench"
KINDS = {
    "shapes": "shapes and colours",
    "counting": "counting",
    "ocr": "reading",
    "spatial": "spatial relation",
    "order": "order in a clip",
    "when": "when in a clip",
}
BARS = (("accuracy", "right"), ("blank", "fast"), ("chance", "other"))


def section(data: Path) -> Markup:
    folder = data / "eval" / "minibench"
    summary = read_json(folder / "summary.json", MISSING)
    if not (folder / "predictions.jsonl").is_file():
        raise NotRunError(MISSING)
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    cards = [card for row in rows if (card := _card(row, folder / "pictures")) is not None]
    page = templates(HERE).get_template("minibench.html.jinja")
    return Markup(page.render(summary=summary, kinds=KINDS, bars=BARS, cards=cards))


def _card(row: dict[str, Any], pictures: Path) -> dict[str, Any] | None:
    """The row with its picture; None for the many whose picture was not kept."""
    path = pictures / f"{row['id']}.jpg"
    return {**row, "uri": data_uri(path.read_bytes())} if path.is_file() else None
