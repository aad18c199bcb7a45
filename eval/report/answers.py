"""The evaluation on easy-vqa's test split: accuracy against its baselines, by kind of question, and examples."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from data_engine.media import decode_image
from data_engine.report.html import NotRunError, read_json, templates, thumbnail

HERE = Path(__file__).parent
TASK = "easy_vqa_test"
MISSING = "not run yet: keyeforge eval run eval/recipes/demo.yaml --data DIR"
NUM_EXAMPLES = 12
BARS = (
    ("accuracy", "the model", "right"),
    ("accuracy_blank_images", "the model, blank images", "other"),
    ("question_only_baseline", "question alone, best answer", "other"),
    ("majority_baseline", "commonest answer, always", "other"),
)

Row = dict[str, Any]


def summary(data: Path) -> dict[str, Any]:
    """The evaluation's summary.json. Raises NotRunError."""
    found: dict[str, Any] = read_json(data / "eval" / TASK / "summary.json", MISSING)
    return found


def predictions(data: Path) -> list[Row]:
    """The evaluation's answers: id, image, question, answer, kind, said, said_blank, correct. Raises NotRunError."""
    path = data / "eval" / TASK / "predictions.jsonl"
    if not path.is_file():
        raise NotRunError(MISSING)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def section(data: Path) -> Markup:
    found, rows = summary(data), predictions(data)
    errors = {"accuracy": found["standard_error"]}
    bars = [{"label": label, "kind": kind, "value": found[key], "error": errors.get(key)} for key, label, kind in BARS]
    page = templates(HERE).get_template("answers.html.jinja")
    cards = [_card(row, Path(found["pictures"])) for row in examples(rows)]
    return Markup(page.render(bars=bars, summary=found, cards=cards))


def examples(rows: Sequence[Row], num: int = NUM_EXAMPLES) -> list[Row]:
    """Questions of all kinds in turn, spread over the test, whether answered rightly or wrongly."""
    kinds = [[row for row in rows if row["kind"] == kind] for kind in sorted({row["kind"] for row in rows})]
    each = -(-num // max(len(kinds), 1))
    chosen = [
        mine[int((turn + (place + 0.5) / len(kinds)) * len(mine) / each)]
        for turn in range(each)
        for place, mine in enumerate(kinds)
    ]
    return list({row["id"]: row for row in chosen}.values())[:num]


def _card(row: Row, pictures: Path) -> Row:
    """The row with its picture, or without where the corpora are no longer there."""
    path = pictures / row["image"]
    return {**row, "uri": thumbnail(decode_image(path.read_bytes()), 96) if path.is_file() else None}
