"""Boxes and polygons in the COCO form: `images`, `annotations` and `categories` in one `.json` file.

One sample per image and category: a request to locate every object of the category, answered in the format of
the Keye-VL-1.5 report (table 1, see `data_engine.grounding`). A category with a faulty annotation on an image
makes no sample there: its answer would not be every object.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeGuard

import orjson
from pydantic import Field

from data_engine import grounding
from data_engine.media import MediaError, MediaStore, open_image, upright_size
from data_engine.recipe import Source
from data_engine.sample import Media, Sample, assistant, user
from data_engine.sources.common import (
    Quarantined,
    RecordError,
    files,
    folder_of,
    image_part,
    make_sample,
    parse_options,
    path_of,
    pick,
    put_image_file,
    quarantining,
)
from strict_yaml import RecipeError, Strict

PROMPTS = (
    "Locate every {} in the image.",
    "Where in this picture is each {}? Mark them all.",
    "Find all instances of {} and give their places.",
    "Mark every {} that you can see.",
)
SLACK = 1.0
"""Pixels that an annotation may reach beyond its image: tools round outwards."""


class CocoOptions(Strict):
    """`annotations`: the one file that is read (default: all). `images`: the folder that file names start from.

    `shape`: what the answer holds. `unit_images`: how many images are read together.
    """

    annotations: str | None = None
    images: str = "."
    shape: Literal["box", "polygon"] = "box"
    unit_images: int = Field(default=200, ge=1)


@dataclass(slots=True)
class Index:
    """A file's images in order, annotations by image, names of categories, licences, and what belongs to no image."""

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: dict[Any, list[dict[str, Any]]] = field(default_factory=dict)
    categories: dict[Any, str] = field(default_factory=dict)
    licences: dict[Any, str] | None = None
    faults: list[tuple[str, str, str]] = field(default_factory=list)
    """(what, field, reason)"""


def units(root: Path, options: dict[str, Any]) -> list[str]:
    """Ranges of images, `instances.json#0-200`; of a file at fault, one that says so."""
    parsed = parse_options(CocoOptions, options, "coco")
    names = [name for name in files(root, {".json"}) if parsed.annotations in {None, name}]
    if not names:
        raise RecipeError(f"{root}: holds no {parsed.annotations!r}, which the option `annotations` names")
    found = []
    for name in names:
        count = max(1, len(_load(folder_of(root) / name).images))
        size = parsed.unit_images
        found += [f"{name}#{start}-{min(start + size, count)}" for start in range(0, count, size)]
    return found


@quarantining
def read(root: Path, unit: str, corpus: str, source: Source, store: MediaStore) -> Iterator[Sample | Quarantined]:
    """Samples of the unit's images; faults are told by `file#image=3`, `file#annotation=7`, in COCO's ids."""
    options = parse_options(CocoOptions, source.options, "coco")
    name, _, span = unit.rpartition("#")
    start, end = map(int, span.split("-"))
    index = _load(path_of(root, name))
    if start == 0:
        yield from (Quarantined(corpus, f"{name}{what}", *rest) for what, *rest in index.faults)
    for image in index.images[start:end]:
        where = f"{name}#image={image['id']}"
        try:
            own = source.model_copy(update={"licence": _licence(image, index.licences) or source.licence})
            partial = _not_exhaustive(image)
            key, size = _picture(image, folder_of(root), options, store)
        except RecordError as error:
            yield error.at(corpus, where)
            continue
        for category, annotations in _by_category(index.annotations.get(image["id"], [])).items():
            at = f"{where}/category={category}"
            try:
                if category in partial:
                    raise RecordError("category_id", "not every object of it is annotated")
                text = _name(index, category)
                shapes = _shapes(annotations, size, options.shape, grounding.Label(text))
                messages = (user(image_part(), pick(PROMPTS, at).format(text)), assistant(grounding.render(shapes)))
                yield make_sample(corpus, own, messages, [Media("image", key)], origin=at)
            except (RecordError, grounding.GroundingError) as error:
                yield Quarantined(corpus, at, getattr(error, "field", "segmentation"), str(error))
        if not index.annotations.get(image["id"]):
            yield Quarantined(corpus, where, "annotations", "the image has none")


def _load(path: Path) -> Index:
    try:
        status = path.stat()
    except OSError as error:
        return Index(faults=[("", "file", f"cannot be read: {error}")])
    return _load_version(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1)
def _load_version(path: Path, size: int, modified: int) -> Index:  # noqa: ARG001 - keys of the cache
    """The file is parsed whole, once per process, however many units it has."""
    index = Index()
    try:
        data = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        index.faults.append(("", "json", f"not JSON: {error.msg}" if size else "empty file"))
        return index
    except OSError as error:
        return Index(faults=[("", "file", f"cannot be read: {error}")])
    tables = {name: data.get(name) if isinstance(data, dict) else None for name in ("images", "categories")}
    tables["annotations"] = data.get("annotations") if isinstance(data, dict) else None
    for name, rows in tables.items():
        if not isinstance(rows, list) or not rows:
            index.faults.append(("", name, "missing: a COCO file holds a list of them" if rows is None else "empty"))
            return index
    index.categories = {
        row["id"]: row["name"] for row in _objects(index, "category", tables["categories"], "id", "name")
    }
    if isinstance(data.get("licenses"), list):
        index.licences = {row["id"]: _licence_text(row) for row in _objects(index, "license", data["licenses"], "id")}
    seen: set[Any] = set()
    for row in _objects(index, "image", tables["images"], "id", "file_name"):
        if row["id"] in seen:
            index.faults.append((f"#image={row['id']}", "id", "used twice"))
        else:
            seen.add(row["id"])
            index.images.append(row)
    for row in _objects(index, "annotation", tables["annotations"], "image_id", "category_id"):
        if row["image_id"] in seen:
            index.annotations.setdefault(row["image_id"], []).append(row)
        else:
            what = f"#annotation={row.get('id')}"
            index.faults.append((what, "image_id", f"no image {row['image_id']!r}"))
    return index


def _objects(index: Index, what: str, rows: Any, *keys: str) -> Iterator[dict[str, Any]]:
    """The rows that are objects with usable `keys`; the others become faults."""
    for number, row in enumerate(rows):
        fault = next((k for k in keys if not isinstance(row, dict) or not isinstance(row.get(k), int | str)), None)
        if fault:
            index.faults.append((f"#{what}s[{number}]", fault, "missing or of the wrong type"))
        else:
            yield row


def _licence_text(row: dict[str, Any]) -> str:
    """A licence's name; its address where that says more: COCO's own names lack the version."""
    name, url = (str(row[key]).strip() if isinstance(row.get(key), str) else "" for key in ("name", "url"))
    return url if "creativecommons.org/" in url else name or url


def _licence(image: dict[str, Any], known: dict[Any, str] | None) -> str:
    """What the image's `license` names, by its id in `licenses` or as text; empty if it says nothing."""
    given = image.get("license")
    if given is None or (known is None and not isinstance(given, str)):
        return ""
    if isinstance(given, int | str) and given in (known or {}):
        return (known or {})[given]
    if isinstance(given, str):
        return given.strip()
    raise RecordError("license", f"no licence {str(given)[:40]!r} in `licenses`")


def _not_exhaustive(image: dict[str, Any]) -> list[Any]:
    found = image.get("not_exhaustive_category_ids")
    if found is not None and not isinstance(found, list):
        raise RecordError("not_exhaustive_category_ids", "must be a list of ids of categories")
    return found or []


def _picture(
    image: dict[str, Any], folder: Path, options: CocoOptions, store: MediaStore
) -> tuple[str, tuple[int, int]]:
    """The stored image's key and upright (width, height), which must be what the annotations are for."""
    key = put_image_file(f"{options.images}/{image['file_name']}", folder, store)
    try:
        with open_image(store.read(key)) as picture:
            size = upright_size(picture)
    except (MediaError, OSError) as error:
        raise RecordError("image", str(error)) from error
    claimed = image.get("width", size[0]), image.get("height", size[1])
    if claimed != size:
        raise RecordError(
            "width", f"annotated as {claimed[0]} x {claimed[1]} pixels, the image has {size[0]} x {size[1]}"
        )
    return key, size


def _by_category(annotations: Sequence[dict[str, Any]]) -> dict[Any, list[dict[str, Any]]]:
    found: dict[Any, list[dict[str, Any]]] = {}
    for row in annotations:
        found.setdefault(row["category_id"], []).append(row)
    return found


def _name(index: Index, category: Any) -> str:
    name = index.categories.get(category)
    if not isinstance(name, str) or not name.strip():
        raise RecordError("category_id", f"no category {category!r} with a name")
    return name.strip()


def _shapes(
    annotations: Sequence[dict[str, Any]], size: tuple[int, int], shape: str, label: grounding.Label
) -> list[grounding.Shape]:
    """Every object of one category, from top to bottom. Raises RecordError for the first that has no shape."""
    found: list[grounding.Shape] = []
    for row in sorted(annotations, key=_place):
        try:
            if row.get("iscrowd"):
                raise RecordError("iscrowd", "stands for several objects")
            found += [_box(row, size, label)] if shape == "box" else _polygons(row, size, label)
        except RecordError as error:
            raise RecordError(error.field, f"annotation {row.get('id')}: {error}") from error
    return found


def _place(row: dict[str, Any]) -> tuple[float, float]:
    bbox = row.get("bbox")
    return (bbox[1], bbox[0]) if _are_numbers(bbox, 4) else (math.inf, math.inf)


def _are_numbers(values: Any, at_least: int) -> TypeGuard[list[float]]:
    return (
        isinstance(values, list)
        and len(values) >= at_least
        and all(
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
        )
    )


def _box(row: dict[str, Any], size: tuple[int, int], label: grounding.Label) -> grounding.Box:
    bbox = row.get("bbox")
    if not _are_numbers(bbox, 4) or len(bbox) != 4:
        raise RecordError("bbox", f"must be four finite numbers, is {str(bbox)[:60]}")
    left, top, width, height = bbox
    if width <= 0 or height <= 0:
        raise RecordError("bbox", f"is {width} x {height} pixels")
    corners = _bins([left, top, left + width, top + height], size, "bbox")
    return grounding.Box(*corners[0], *corners[1], label)


def _polygons(row: dict[str, Any], size: tuple[int, int], label: grounding.Label) -> list[grounding.Shape]:
    parts = row.get("segmentation")
    if not isinstance(parts, list) or not parts:
        raise RecordError("segmentation", "a mask, not polygons" if isinstance(parts, dict) else "missing")
    found: list[grounding.Shape] = []
    for part in parts:
        if not _are_numbers(part, 6) or len(part) % 2:
            raise RecordError("segmentation", "a polygon needs three corners or more, each of two finite numbers")
        points = tuple(dict.fromkeys(_bins(part, size, "segmentation")))
        if len(points) < 3 or grounding.signed_area(points) == 0:
            raise RecordError("segmentation", "the polygon has no area")
        found.append(grounding.Polygon(grounding.clockwise(points), label))
    return found


def _bins(flat: Sequence[float], size: tuple[int, int], name: str) -> list[grounding.XY]:
    """x, y, x, y, ... in pixels to bins. Raises RecordError for a corner outside the image."""
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    if any(not (-SLACK <= x <= size[0] + SLACK and -SLACK <= y <= size[1] + SLACK) for x, y in pairs):
        raise RecordError(name, f"reaches outside the image of {size[0]} x {size[1]} pixels")
    return [(int(x), int(y)) for x, y in grounding.normalise(pairs, *size)]
