"""Writes what docs/operators.md says of every operator and pass: fields, defaults and measures, from the code itself.

    python tools/operators_page.py

Only what stands between the page's marks is written; the prose around it is the page's own. A test holds the page to
the code: whoever adds an operator or a field runs this once more.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from data_engine.judge import OPERATORS
from data_engine.operators.web_text import HAN, Thresholds
from data_engine.passes import PASSES

PAGE = Path(__file__).parents[1] / "docs" / "operators.md"
AUTOMATIC = {"rights"}
_MARKED = re.compile(r"(<!-- from the code: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def families() -> dict[str, list[str]]:
    """The names of the operators of each module, and `passes`."""
    found: dict[str, list[str]] = {}
    for name, operator in OPERATORS.items():
        found.setdefault(operator.__module__.rpartition(".")[2], []).append(name)
    return {**found, "passes": list(PASSES)}


def written(page: str) -> str:
    """The page with everything between its marks made anew. Raises ValueError for a family without a place."""
    known = {**{name: _family(names) for name, names in families().items()}, "bounds": bounds()}
    placed = [name for _, name, _ in _MARKED.findall(page)]
    if sorted(placed) != sorted(known):
        raise ValueError(f"docs/operators.md has places for {sorted(placed)}, the code has {sorted(known)}")
    return _MARKED.sub(lambda match: f"{match[1]}\n{known[match[2]]}\n{match[3]}", page)


def _family(names: list[str]) -> str:
    models: Mapping[str, type[BaseModel]] = {**OPERATORS, **{name: model for name, (model, _) in PASSES.items()}}
    return "\n".join(line for name in names for line in _entry(name, models[name]))


def _entry(name: str, model: type[BaseModel]) -> Iterator[str]:
    """One operator or pass: its name, its docstring, its fields, its measures."""
    marks = ["model"] if getattr(model, "needs_media", False) else []
    marks += ["put first by the run"] if name in AUTOMATIC else []
    yield f"### `{name}`" + (f" *{', '.join(marks)}*" if marks else "")
    yield "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(model) or "").split("\n\n"))
    yield ""
    yield f"- **fields** {', '.join(map(_field, model.model_fields.items())) or 'none'}"
    if measures := getattr(model, "looks_at", ()):
        again = getattr(model, "measured_by", ())
        fixed = f"; measured anew when {' or '.join(f'`{one}`' for one in again)} changes" if again else ""
        yield f"- **measures** {', '.join(f'`{one}`' for one in measures)}{fixed}"
    yield ""


def _field(item: tuple[str, Any]) -> str:
    name, field = item
    if field.is_required():
        return f"`{name}` (required)"
    default = field.default if field.default is not PydanticUndefined else field.default_factory()
    return f"`{name}` " + ("(see the bounds)" if isinstance(default, BaseModel) else f"= {_value(default)}")


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def bounds() -> str:
    """The thresholds of `web_text`, for spaced scripts and for Han, as a table."""
    spaced = Thresholds()
    head = ["| bound | spaced | han |", "| --- | --- | --- |"]
    rows = [
        f"| `{name}` | {_value(getattr(spaced, name))} | {_value(getattr(HAN, name))} |"
        for name in Thresholds.model_fields
    ]
    return "\n".join([*head, *rows, ""])


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
