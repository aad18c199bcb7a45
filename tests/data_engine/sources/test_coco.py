"""Annotations whose places are known: what the answer says is where the object is."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from data_engine import grounding
from data_engine.sources import coco
from strict_yaml import RecipeError
from tests.data_engine.sources.helpers import png, read_all, reasons


def write(root: Path, annotations: list[dict[str, Any]], **more: Any) -> None:
    (root / "pictures").mkdir(exist_ok=True)
    (root / "pictures" / "a.png").write_bytes(png(200, 100))
    data = {
        "images": [{"id": 1, "file_name": "a.png", "width": 200, "height": 100}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{"id": n, "image_id": 1, "category_id": 1, **a} for n, a in enumerate(annotations)],
    }
    (root / "boxes.json").write_text(json.dumps({**data, **more}))


OPTIONS = {"images": "pictures"}


def test_boxes_are_written_in_the_reports_format(root, store):
    write(root, [{"bbox": [100, 50, 100, 50]}, {"bbox": [0, 0, 20.5, 10]}, {"bbox": [50, 0, 1, 1], "category_id": 2}])
    (cats, dogs), bad = read_all(coco, root, store, OPTIONS)
    assert bad == []
    assert cats.messages[1].text == (
        "<|object_ref_start|>cat<|object_ref_end|><|box_start|>[[0, 0, 102, 100], [500, 500, 999, 999]]<|box_end|>"
    )
    assert dogs.messages[1].text == (
        "<|object_ref_start|>dog<|object_ref_end|><|box_start|>[[250, 0, 255, 10]]<|box_end|>"
    )
    assert "cat" in cats.messages[0].text and store.read(cats.media[0].key) == png(200, 100)
    assert cats.origin == "boxes.json#image=1/category=1"


def test_polygons_are_clockwise_whatever_they_were(root, store):
    square = [20, 10, 20, 40, 80, 40, 80, 10]  # counter-clockwise on the screen
    write(root, [{"bbox": [20, 10, 60, 30], "segmentation": [square]}])
    (sample,), bad = read_all(coco, root, store, {**OPTIONS, "shape": "polygon"})
    (shape,), faults = grounding.parse(sample.messages[1].text)
    assert (bad, faults) == ([], []) and isinstance(shape, grounding.Polygon)
    assert set(shape.points) == {(100, 100), (100, 400), (400, 400), (400, 100)}
    assert grounding.signed_area(shape.points) > 0 and shape.label == grounding.Label("cat")


def test_many_images_are_read_in_units(root, store):
    count = 25
    images = [{"id": n, "file_name": "a.png"} for n in range(count)]
    write(root, [{"image_id": n, "bbox": [0, 0, 9, 9]} for n in range(count)], images=images)
    assert len(coco.units(root, {**OPTIONS, "unit_images": 10})) == 3
    good, bad = read_all(coco, root, store, {**OPTIONS, "unit_images": 10})
    assert bad == [] and len({sample.origin for sample in good}) == count


@pytest.mark.parametrize(
    ("annotation", "field", "reason"),
    [
        ({}, "bbox", "must be four finite numbers"),
        ({"bbox": [1, 2, 3]}, "bbox", "must be four"),
        ({"bbox": ["1", 2, 3, 4]}, "bbox", "must be four"),
        ({"bbox": [0, 0, 0, 5]}, "bbox", "is 0 x 5 pixels"),
        ({"bbox": [150, 0, 60, 5]}, "bbox", "reaches outside"),
        ({"bbox": [0, 0, 5, 5], "iscrowd": 1}, "iscrowd", "several objects"),
        ({"bbox": [0, 0, 5, 5], "category_id": 9}, "category_id", "no category 9"),
        ({"segmentation": {"counts": [1], "size": [1, 1]}}, "segmentation", "a mask"),
        ({"segmentation": [[0, 0, 5, 5]]}, "segmentation", "three corners"),
        ({"segmentation": [[0, 0, 5, 5, 9, 9]]}, "segmentation", "no area"),
        ({"segmentation": [[0, 0, 5, 0, 900, 9]]}, "segmentation", "outside"),
    ],
)
def test_a_fault_spoils_its_category_and_nothing_else(annotation, field, reason, root, store):
    fine = {"bbox": [0, 0, 9, 9], "segmentation": [[0, 0, 9, 0, 9, 9]]}
    write(root, [{**fine, "category_id": 2}, fine, annotation])
    shape = "polygon" if "segmentation" in annotation else "box"
    good, bad = read_all(coco, root, store, {**OPTIONS, "shape": shape})
    assert "boxes.json#image=1/category=2" in [sample.origin for sample in good]
    ((_, (found, why)),) = reasons(bad).items()
    assert found == field and reason in why
    assert ("annotation 2" in why) == (field != "category_id")


@pytest.mark.parametrize("wrong", [5, "1", {"a": 1}, True])
def test_a_wrong_type_costs_its_image_and_no_other(wrong, root, store):
    images = [{"id": n, "file_name": "a.png"} for n in range(5)]
    images[2]["not_exhaustive_category_ids"] = wrong
    write(root, [{"image_id": n, "bbox": [0, 0, 9, 9]} for n in range(5)], images=images)
    good, bad = read_all(coco, root, store, OPTIONS)
    assert len(good) == 4
    assert reasons(bad) == {
        "boxes.json#image=2": ("not_exhaustive_category_ids", "must be a list of ids of categories")
    }


FINITE = st.floats(allow_nan=False, allow_infinity=False)  # NaN and Infinity are no JSON: the file is refused whole
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | FINITE | st.text(max_size=3) | st.just("a.png"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "name"]), inner, max_size=2),
    max_leaves=6,
)
IMAGE = ("id", "file_name", "width", "height", "license", "not_exhaustive_category_ids")
NOTE = ("id", "image_id", "category_id", "bbox", "segmentation", "iscrowd")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(IMAGE), ANY, max_size=1),
    st.dictionaries(st.sampled_from(NOTE), ANY, max_size=1),
    st.none() | st.lists(st.dictionaries(st.sampled_from(["id", "name", "url"]), ANY), max_size=2),
    st.sampled_from(["box", "polygon"]),
)
def test_whatever_a_record_holds_the_others_are_read(root, store, image, note, licences, shape):
    fine = {"bbox": [0, 0, 9, 9], "segmentation": [[0, 0, 9, 0, 9, 9]], "category_id": 1}
    images = [{"id": "x", "file_name": "a.png", **image}, {"id": "y", "file_name": "a.png"}]
    notes = [{"image_id": "x", **fine, **note}, {"image_id": "y", **fine}]
    write(root, notes, images=images, licenses=licences)
    assume("y" not in (image.get("id"), note.get("image_id")))
    good, _ = read_all(coco, root, store, {**OPTIONS, "shape": shape})
    assert "boxes.json#image=y/category=1" in [sample.origin for sample in good]


def test_an_images_own_licence_goes_before_the_sources(root, store):
    known = [
        {"id": 1, "name": "Attribution-NonCommercial License", "url": "http://creativecommons.org/licenses/by-nc/2.0/"},
        {"id": 2, "name": "No known copyright restrictions", "url": "http://flickr.com/commons/usage/"},
        {"id": 3, "name": "", "url": ""},
    ]
    licences = [1, 2, 3, None, "CC-BY-NC-4.0", 9]
    images = [{"id": n, "file_name": "a.png", "license": licence} for n, licence in enumerate(licences)]
    write(root, [{"image_id": n, "bbox": [0, 0, 9, 9]} for n in range(len(licences))], images=images, licenses=known)
    good, bad = read_all(coco, root, store, OPTIONS)
    expected = [known[0]["url"], known[1]["name"], "MIT", "MIT", "CC-BY-NC-4.0"]
    assert [sample.licence for sample in good] == expected
    assert reasons(bad) == {"boxes.json#image=5": ("license", "no licence '9' in `licenses`")}


def test_faults_of_images_and_references(root, store):
    (root / "pictures").mkdir()
    (root / "pictures" / "not.png").write_text("<html>")
    images = [
        {"id": 1, "file_name": "a.png", "width": 200, "height": 100},
        {"id": 1, "file_name": "a.png"},
        {"id": 2, "file_name": "a.png", "width": 100, "height": 200},
        {"id": 3, "file_name": "absent.png"},
        {"id": 4, "file_name": "../../x.png"},
        {"id": 5},
        {"id": 6, "file_name": "not.png"},
        {"id": 7, "file_name": "a.png"},
        3,
    ]
    boxes = [{"bbox": [0, 0, 9, 9], "image_id": n} for n in (1, 2, 3, 4, 6, 5)]
    write(root, boxes, images=images)
    good, bad = read_all(coco, root, store, OPTIONS)
    assert [sample.origin for sample in good] == ["boxes.json#image=1/category=1"]
    found = {locator.removeprefix("boxes.json#"): reason for locator, (_, reason) in reasons(bad).items()}
    expected = {
        "image=1": "used twice",
        "image=2": "annotated as 100 x 200 pixels, the image has 200 x 100",
        "image=3": "no such file",
        "image=4": "leaves the corpus folder",
        "images[5]": "missing or of the wrong type",
        "image=6": "not an image",
        "image=7": "the image has none",
        "images[8]": "missing or of the wrong type",
        "annotation=5": "no image 5",
    }
    assert found.keys() == expected.keys() and all(expected[key] in found[key] for key in expected), found


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"images": []}', b'{"images": [], "annotations": 3}', b"\xff"])
def test_other_files_are_told(data, root, store):
    (root / "x.json").write_bytes(data)
    good, bad = read_all(coco, root, store)
    assert good == [] and [record.locator for record in bad] == ["x.json"]


def test_a_file_that_is_not_there_is_a_wrong_recipe(root):
    write(root, [])
    with pytest.raises(RecipeError, match=r"absent\.json"):
        coco.units(root, {"annotations": "absent.json"})
