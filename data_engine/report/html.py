"""What all parts of the report share: numbers as people read them, figures as SVG, pictures as data URIs."""

import base64
import functools
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from data_engine.media import encode_jpeg, shrink
from data_engine.report import palette

_SVG_SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "keyeforge"}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


class NotRunError(ValueError):
    """A part of the run that is not there; the message is the line that the report shows in its place."""


def read_json(path: Path, otherwise: str) -> Any:
    """A JSON file of the run. Raises NotRunError with `otherwise` if there is none."""
    if not path.is_file():
        raise NotRunError(otherwise)
    return json.loads(path.read_text(encoding="utf-8"))


def step_record(folder: Path) -> dict[str, Any]:
    """A finished step's step.json."""
    record: dict[str, Any] = json.loads((folder / "step.json").read_text(encoding="utf-8"))
    return record


def number(value: float | None, digits: int = 3) -> str:
    """`12,345`, `0.914`, `-`: whole numbers with thousands separators, others with `digits` significant ones."""
    if value is None:
        return "–"
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def duration(seconds: float | None) -> str:
    """`0.42 s`, `38.1 s`, `2 min 05 s`, `1 h 03 min`."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(num_bytes: float) -> str:
    """Bytes in the decimal unit that keeps them short."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes:.0f} B"


@functools.cache
def templates(folder: Path) -> jinja2.Environment:
    """The templates of a folder, with the filters above; a name the template misspells is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "percent": percent, "duration": duration, "bytes": size}
    return environment


def render(template: str, **values: Any) -> Markup:
    """One of this package's templates as HTML."""
    return Markup(templates(Path(__file__).parent).get_template(template).render(**values))


def svg(figure: Figure, label: str) -> Markup:
    """A figure as inline SVG: page fonts, page colours, ids of its own, as wide as its place. `label` is read aloud."""
    buffer = io.StringIO()
    with mpl.rc_context(_SVG_SETTINGS):
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<defs>\s*<style.*?</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
    text = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", text)
    mark = f"f{hashlib.sha256((label + text).encode()).hexdigest()[:8]}-"
    text = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{mark}", text)
    opening = Markup("<svg class='plot' role='img' aria-label='{}'").format(label)
    return opening + Markup(palette.themed(text.removeprefix("<svg")))


def data_uri(content: bytes, kind: str = "image/jpeg") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def thumbnail(pixels: np.ndarray[Any, np.dtype[np.uint8]], max_side: int, quality: int = 78) -> str:
    """Pixels [H, W, 3] as a small JPEG in a data URI."""
    return data_uri(encode_jpeg(shrink(pixels, max_side), quality))
