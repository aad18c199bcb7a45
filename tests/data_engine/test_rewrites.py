"""What curation changes: planted personal data, real faces, plates on real vehicles, garbled characters; what is left
is compared with what was planted."""

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from data_engine import catalog, label, rewrites, tables
from data_engine import sample as samples
from data_engine.cli import app
from data_engine.curate import curate
from data_engine.media import MediaStore, decode_image
from data_engine.models import detector
from data_engine.recipe import load_recipe
from data_engine.rewrites import Blur, MaskPii, Ungarble
from data_engine.runners import partition
from data_engine.runners.partition import RunnerName
from data_engine.sample import Media, Part, Sample, assistant, user
from data_engine.stream import Stream
from strict_yaml import RecipeError
from tests.data_engine import detectors
from tests.data_engine import lifecycle_run as life
from tests.data_engine.operators.test_pii import identity_digit, luhn_digit

CARD, IDENTITY = "455673758689985", "11010519491231002"
PLANTED = {
    "email": ["jane.doe@mail.example.org", "zhang.wei@example.cn"],
    "phone": ["+44 20 7946 0958", "(415) 555-2671"],
    "ip": ["8.8.4.4", "2001:4860:4860::8844"],
    "card": [CARD + luhn_digit(CARD)],
    "cn_mobile": ["13812345678", "+86 139-1234-5678"],
    "cn_id": [IDENTITY + identity_digit(IDENTITY)],
}
"""What must not be left, by kind."""
NEAR = [
    CARD + str((int(luhn_digit(CARD)) + 1) % 10),
    IDENTITY + ("0" if identity_digit(IDENTITY) != "0" else "1"),
    "version 3.11.2",
    "10.0.0.1",
    "2024-01-15 12:30:45",
    "std::vector",
]
"""What looks like it and is not: a wrong check digit, a version, a private address, a time, code."""
SPEECH = {
    "en": ("Whom do I write to about {} please?", "That would be {} during the week."),
    "zh": ("请问{}是谁的？", "这是{}，请记下来。"),
}


def turns(question: str, answer: str, **others: Any) -> str:
    """One row of a conversation file."""
    pair = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return json.dumps({"conversations": pair, **others}, ensure_ascii=False)


def planted_rows() -> list[str]:
    rows = []
    for ask, tell in SPEECH.values():
        for values in PLANTED.values():
            rows += [turns(ask.format(value), "OK.") for value in values]
            rows += [turns("?", tell.format(value)) for value in values]
        rows += [turns(ask.format(value), tell.format(value)) for value in NEAR]
    rows += [turns("Two in one: 13812345678", "and a\ufffdb@example.org, jane@example.org"), turns("Clean?", "Clean.")]
    return rows


RECIPE: dict[str, Any] = {
    "corpus": "talk",
    "sources": [{"format": "conversations", "path": "rows", "modality": "image", "task": "sft", "licence": "MIT"}],
    "rewrites": [{"ungarble": {}}, {"mask_pii": {}}],
    "operators": [{"turn_order": {}}, {"pii": {"action": "drop"}}],
    "dedup": [{"exact": {}}],
    "target": "samples",
}


def write(root: Path, rows: list[str], **changes: Any) -> Path:
    (root / "rows").mkdir(parents=True, exist_ok=True)
    (root / "rows/r.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    path = root / "recipe.yaml"
    path.write_text(yaml.safe_dump({"root": str(root), **RECIPE, **changes}), encoding="utf-8")
    return path


def run(recipe: Path, out: Path, runner: RunnerName = "local") -> dict[str, Any]:
    outcome = curate(load_recipe(recipe), out, runner=runner)
    assert not outcome.failed
    return outcome.summary


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("talk")
    run(write(root, planted_rows()), root / "run")
    return root


def words_of(folder: Path) -> str:
    return "\n".join(sample.text for sample in samples.from_table(tables.read(folder)))


def test_nothing_planted_is_released_and_near_misses_stay(talk: Path) -> None:
    released = words_of(talk / "run/release/talk")
    for kind, values in PLANTED.items():
        assert not any(value in released for value in values)
        for ask, tell in SPEECH.values():
            assert ask.format(f"<{kind.upper()}>") in released and tell.format(f"<{kind.upper()}>") in released
    for value in NEAR:
        assert released.count(value) == 2 * len(SPEECH), value
    assert "\ufffd" not in released


def test_a_rewritten_sample_has_its_story_and_one_parent(talk: Path) -> None:
    row = next(row for row in tables.rows(talk / "run/release/talk") if "Two in one" in str(row["messages"]))
    about = catalog.why(talk / "run", row["id"][:12])
    told = {line["operator"]: line["reason"] for line in about["lineage"] if line["verdict"] == "rewrite"}
    assert told == {"ungarble": "taken out: 1 characters", "mask_pii": "masked: 2 email, 1 cn_mobile"}
    assert about["verdicts"][0]["status"] == "kept"
    (parent,) = row["parents"]
    before = catalog.why(talk / "run", parent)
    assert "\ufffd" in str(before["sample"]["messages"])
    assert [child["id"] for child in before["children"]] == [row["id"]]
    shown = CliRunner().invoke(app, ["why", row["id"], "--data", str(talk / "run")]).output
    assert "made of" in shown and parent in shown


def test_rewrites_are_counted_and_every_row_has_its_place(talk: Path) -> None:
    counts = json.loads((talk / "run/summary.json").read_text())["corpora"]["talk"]
    num = 2 * 2 * sum(map(len, PLANTED.values())) + 1
    assert counts["rewritten"] == num and counts["ingested"] == num + 2 * len(NEAR) + 1
    steps = catalog.steps(talk / "run")
    assert catalog.record(steps["rewrite.talk"])["counts"]["rewritten"] == num
    row = next(row for row in catalog.funnel(talk / "run") if row["operator"] == "rewrite")
    assert row["rewritten"] == num and row["dropped"] == 0
    before, after = (tables.rows(steps[f"{name}.talk"] / "samples") for name in ("ingest", "rewrite"))
    for old, new in zip(before, after, strict=True):
        assert new["origin"] == old["origin"]
        assert new == old if new["id"] == old["id"] else new["parents"] == [old["id"]]
        assert samples.content_id(samples.from_row(new)) == new["id"]


def test_without_rewrites_there_is_no_step_and_again_nothing_is_done(talk: Path, tmp_path: Path) -> None:
    recipe = load_recipe(talk / "recipe.yaml")
    announced: list[Any] = []
    curate(recipe, talk / "run", runner="local", announce=announced.append)
    assert announced and all(step.reused for step in announced)
    run(write(tmp_path, planted_rows()[:6], rewrites=[]), tmp_path / "run")
    assert not any(name.startswith("rewrite.") for name in catalog.steps(tmp_path / "run"))


@pytest.mark.usefixtures("spark", "ray")
def test_all_runners_write_the_same_bytes(talk: Path, tmp_path: Path) -> None:
    parts = tables.parts(catalog.steps(talk / "run")["ingest.talk"] / "samples")
    table = pa.concat_tables([pq.read_table(part) for part in parts])
    tables.write_partitions(table, tmp_path / "samples", 9)
    names = [part.name for part in tables.parts(tmp_path / "samples")]
    units = tables.write_partitions(pa.table({"part": names}), tmp_path / "units", 1)
    work = partial(
        rewrites.rewrite_partition,
        rewrites=rewrites.build(RECIPE["rewrites"]),
        samples=tmp_path / "samples",
        store=tmp_path / "media",
    )
    written = []
    runners: tuple[RunnerName, ...] = ("local", "spark", "ray")
    for name in runners:
        partition.run(name, work, units, tmp_path / name, lambda done, total: None)
        files = sorted((tmp_path / name).glob("*/part-*.parquet"))
        written.append([(file.parent.name, file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files])
    assert written[0] == written[1] == written[2] and len(written[0]) == 2 * len(units) + len(units)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"mask_pi": {}}, "did you mean 'mask_pii'"),
        ({"mask_pii": {"kind": "email"}}, "rewrites.mask_pii: unknown 'kind'"),
        ({"blur_faces": {"model": "no.onnx"}}, "no.onnx: no such model"),
        ({"blur_faces": {}}, "model"),
    ],
)
def test_a_wrong_rewrite_is_refused_before_anything_is_read(tmp_path: Path, spec: Any, message: str) -> None:
    recipe = load_recipe(write(tmp_path, planted_rows()[:1], rewrites=[spec]))
    with pytest.raises(RecipeError, match=message):
        curate(recipe, tmp_path / "run", runner="local")
    assert not (tmp_path / "run").exists()


def test_what_is_no_detector_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="not an ONNX model"):
        Blur(model=str(tmp_path / "a.onnx"))


# -- pictures


@pytest.fixture(scope="session")
def faces() -> str:
    return detectors.fetched("centerface.onnx")


@pytest.fixture(scope="session")
def plates() -> str:
    return detectors.fetched("platedet.onnx")


def test_the_real_face_is_found_and_after_blurring_no_more(faces: str) -> None:
    pixels = decode_image(detectors.FACE.read_bytes())
    (box,) = detector.detect(pixels, faces, 0.5)
    assert all(box[0] < x < box[2] and box[1] < y < box[3] for x, y in detectors.EYES_AND_MOUTH)
    assert (box[2:] - box[:2]).prod() < 0.25 * pixels.shape[0] * pixels.shape[1]
    twice = np.concatenate([pixels, pixels], axis=1)
    assert len(detector.detect(twice, faces, 0.5)) == 2
    large = np.asarray(Image.fromarray(pixels).resize((1536, 1800)))
    (found,) = detector.detect(large, faces, 0.5)
    assert detectors.iou(found // 3, tuple(box.tolist())) > 0.7
    assert not len(detector.detect(decode_image(detectors.NO_FACE.read_bytes()), faces, 0.5))


def test_plates_on_real_vehicles_are_found_where_they_were_put(corpora: Any, plates: str) -> None:
    folder = corpora / "stamps/vehicles/auto"
    for name in ("sedan", "sportscar2", "truck", "beetle"):
        pixels = decode_image((folder / f"{name}.png").read_bytes())
        made, truth = detectors.with_plate(Image.fromarray(pixels))
        (box,) = detector.detect(np.asarray(made), plates, 0.5)
        assert detectors.iou(box, truth) > 0.6
        assert not len(detector.detect(pixels, plates, 0.5))


def picture_row(name: str, words: str = "What is shown?", answer: str = "Somebody or something.") -> str:
    return turns(words, answer, image=name)


@pytest.fixture(scope="module")
def album(corpora: Any, faces: str, plates: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to shards over a face, a car with a plate, and a picture with neither; the face twice, once broken."""
    root = tmp_path_factory.mktemp("album")
    (root / "rows").mkdir()
    shutil.copy(detectors.FACE, root / "rows/face.jpg")
    shutil.copy(detectors.NO_FACE, root / "rows/none.png")
    (root / "rows/broken.jpg").write_bytes(detectors.FACE.read_bytes()[:2000])
    car = decode_image((corpora / "stamps/vehicles/auto/sedan.png").read_bytes())
    detectors.with_plate(Image.fromarray(car))[0].save(root / "rows/car.png")
    rows = [picture_row(name) for name in ("face.jpg", "none.png", "broken.jpg", "car.png")]
    rows += [picture_row("face.jpg", "Who is this? Ask a.b@example.org", "An admiral.")]
    rows += [picture_row("none.png", f"Question {number}?", f"Answer {number}.") for number in range(20)]
    specs = [{"blur_faces": {"model": faces}}, {"blur_plates": {"model": plates}}, {"mask_pii": {}}]
    changes = {"rewrites": specs, "target": "shards", "mixture": {"shares": {"image": 1.0}}, "dedup": []}
    changes["holdout"] = {"share": 0.0}
    run(write(root, rows, **changes, shards={"max_side": None}), root / "run")
    return root


def by_words(folder: Path, words: str) -> dict[str, Any]:
    return next(row for row in tables.rows(folder) if words in str(row["messages"]))


def test_only_pictures_with_finds_are_new(album: Path) -> None:
    store = MediaStore(album / "run/media")
    steps = catalog.steps(album / "run")
    read, shown = (tables.rows(steps[f"{name}.talk"] / "samples") for name in ("ingest", "rewrite"))
    keys = [(old["media"][0]["key"], new["media"][0]["key"]) for old, new in zip(read, shown, strict=True)]
    changed = [old != new for old, new in keys]
    assert changed == [True, False, False, True, True, *[False] * 20]
    assert store.read(keys[1][1]) == detectors.NO_FACE.read_bytes() and read[1] == shown[1]
    before, after = (decode_image(store.read(key)) for key in keys[0])
    (box,) = detector.detect(before, detectors.fetched("centerface.onnx"), 0.5)
    outside = np.ones(before.shape[:2], bool)
    outside[box[1] : box[3], box[0] : box[2]] = False
    assert (before[outside] == after[outside]).all() and (before[~outside] != after[~outside]).any()
    assert not len(detector.detect(after, detectors.fetched("centerface.onnx"), 0.3))


def test_the_old_picture_is_neither_probed_nor_in_shards(album: Path) -> None:
    steps = catalog.steps(album / "run")
    old = by_words(steps["ingest.talk"] / "samples", "Who is this")
    new = by_words(steps["rewrite.talk"] / "samples", "Who is this")
    keys = {row["key"] for row in tables.rows(steps["probe.talk"] / "media", ["key"])}
    assert new["media"][0]["key"] in keys and old["media"][0]["key"] not in keys
    original = detectors.FACE.read_bytes()
    for tar in (album / "run/shards").glob("*.tar"):
        assert original not in tar.read_bytes()
    stream = Stream(album / "run/shards/manifest.json", 0)
    items = [stream.read(place) for place in range(len(stream.index))]
    assert old["media"][0]["key"] not in {item.key for one in items for item in one.sample.media}
    media = next(item.media for item in items if item.sample.id == new["id"])
    assert media == [MediaStore(album / "run/media").read(new["media"][0]["key"])]


def test_the_story_of_a_picture(album: Path) -> None:
    new = by_words(catalog.steps(album / "run")["rewrite.talk"] / "samples", "Who is this")
    about = catalog.why(album / "run", new["id"])
    told = {line["operator"]: line["reason"] for line in about["lineage"] if line["verdict"] == "rewrite"}
    assert told == {"blur_faces": "blurred: 1 places", "mask_pii": "masked: 1 email"}
    old = by_words(catalog.steps(album / "run")["ingest.talk"] / "samples", "Who is this")
    assert about["sample"]["parents"] == [old["id"]]
    car = next(row for row in tables.rows(catalog.steps(album / "run")["rewrite.talk"] / "rewritten")
               if row["notes"][0]["rewrite"] == "blur_plates")  # fmt: skip
    assert car["notes"] == [{"rewrite": "blur_plates", "what": "places", "count": 1}]
    counts = json.loads((album / "run/summary.json").read_text())["corpora"]["talk"]
    assert counts["rewritten"] == 3 and counts["quarantined"] == 1


@pytest.mark.parametrize("by_parent", [False, True])
def test_a_removed_sample_takes_along_what_it_was(album: Path, tmp_path: Path, by_parent: bool) -> None:
    shutil.copytree(album / "run", tmp_path / "run", symlinks=True)
    steps = catalog.steps(tmp_path / "run")
    new = by_words(steps["rewrite.talk"] / "samples", "Who is this")
    (parent,) = new["parents"]
    needles = [b"a.b@example.org", new["id"].encode(), parent.encode()]
    assert len(life.traces(tmp_path / "run", needles)) > 5
    chosen = parent if by_parent else new["id"]
    gone = CliRunner().invoke(app, ["remove", "--data", str(tmp_path / "run"), "--id", chosen])
    assert gone.exit_code == 0, gone.output
    assert life.traces(tmp_path / "run", needles) == ["tombstones.jsonl"]
    assert b"a.b@example.org" not in (tmp_path / "run/tombstones.jsonl").read_bytes()
    counts = json.loads((tmp_path / "run/summary.json").read_text())["corpora"]["talk"]
    assert counts["rewritten"] == 2 and counts["ingested"] == 24
    everything = CliRunner().invoke(app, ["remove", "--data", str(tmp_path / "run"), "--origin", "r.jsonl:1"])
    assert everything.exit_code == 0  # the last sample that showed the face: both pictures go
    left = [path.read_bytes() for path in (tmp_path / "run/media").glob("*/*") if path.is_file()]
    assert detectors.FACE.read_bytes() not in left


def test_two_that_come_to_the_same_are_both_parents(tmp_path: Path) -> None:
    rows = [turns("Whose is this?", f"It is {name}@example.org, they say.") for name in ("ann", "bob")]
    run(write(tmp_path, rows), tmp_path / "run")
    (kept,) = tables.rows(tmp_path / "run/release/talk")
    gone = CliRunner().invoke(app, ["remove", "--data", str(tmp_path / "run"), "--id", kept["id"]])
    assert gone.exit_code == 0 and not life.traces(tmp_path / "run", [b"ann@example.org", b"bob@example.org"])


# -- the functions


def test_a_chain_of_rewrites_has_one_parent_and_leaves_others_alone(tmp_path: Path) -> None:
    def made(question: str, answer: str) -> Sample:
        shown = user(Part("image", media=(0,)), question)
        return Sample("c", "image", "vqa", (shown, assistant(answer)), (Media("image", f"{'a' * 64}.png"),))

    old = [made("What?", "A cat."), made("Mail a@b.com\ufffd", "Or 13812345678"), made("\x07 What?", "A cat.")]
    rules: rewrites.Rewrites = [("ungarble", Ungarble()), ("mask_pii", MaskPii())]
    table = samples.to_table([*old, old[0]])
    done = rewrites.rewrite(table.slice(0), rules, MediaStore(tmp_path))
    new = samples.from_table(done["samples"])
    assert new[0] == new[3] == old[0] and new[1].messages == made("Mail <EMAIL>", "Or <CN_MOBILE>").messages
    assert new[1].parents == (old[1].id,) and new[1].id == made("Mail <EMAIL>", "Or <CN_MOBILE>").id
    assert new[2].text == " What?\nA cat." and new[2].parents == (old[2].id,)
    assert [(row["id"], row["parent"]) for row in done["rewritten"].to_pylist()] == [
        (new[1].id, old[1].id), (new[2].id, old[2].id)
    ]  # fmt: skip
    assert [note["what"] for note in done["rewritten"]["notes"][0].as_py()] == ["characters", "email", "cn_mobile"]
    again = rewrites.rewrite(done["samples"], rules, MediaStore(tmp_path))
    assert again["samples"].equals(done["samples"]) and not len(again["rewritten"])
    shifted = rewrites.rewrite(table.slice(1), rules, MediaStore(tmp_path))  # an offset in the arrays changes nothing
    assert samples.from_table(shifted["samples"]) == new[1:]
    nothing = rewrites.rewrite(table.slice(0, 0), rules, MediaStore(tmp_path))
    assert len(nothing["samples"]) == len(nothing["rewritten"]) == 0


def test_a_document_in_pictures_and_frames_of_videos(tmp_path: Path, faces: str) -> None:
    store = MediaStore(tmp_path)
    face, none = (store.put_file(path) for path in (detectors.FACE, detectors.NO_FACE))
    message = (user(Part("image", media=(0,)), Part("image", media=(1,)), Part("image", media=(2,))),)
    both = Sample("c", "image", "vqa", message, (Media("image", none), Media("image", face), Media("image", face)))
    frame = Sample("c", "image", "vqa", message[:0], (Media("image", face, start=1.0), Media("video", face)))
    done = rewrites.rewrite(samples.to_table([both, frame]), [("blur_faces", Blur(model=faces))], store)
    new = samples.from_table(done["samples"])
    assert new[1] == frame and new[0].media[0] == both.media[0] and new[0].media[1] == new[0].media[2] != both.media[1]
    assert done["rewritten"]["notes"].to_pylist() == [[{"rewrite": "blur_faces", "what": "places", "count": 1}]]


def test_what_ocr_reads_is_masked_before_it_is_kept(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    from PIL import ImageDraw, ImageFont

    image = Image.new("RGB", (640, 120), "white")
    font = ImageFont.truetype(detectors.MATPLOTLIB / "fonts/ttf/DejaVuSans.ttf", 32)
    ImageDraw.Draw(image).text((10, 40), "Write to jane@example.org today", font=font, fill="black")
    image.save(tmp_path / "note.png")
    store = MediaStore(tmp_path / "media")
    sample = Sample("c", "image", "ocr", (user(Part("image", media=(0,)), "Read."),),
                    (Media("image", store.put_file(tmp_path / "note.png")),))  # fmt: skip
    rules: rewrites.Rewrites = [("mask_pii", MaskPii())]
    plain, masked = (
        label.label_partition(samples.to_table([sample]), store=tmp_path / "media", rewriting=chosen)
        for chosen in ((), rules)
    )
    assert "jane@example.org" in plain["ocr"]["ocr_text"][0].as_py()
    text = masked["ocr"]["ocr_text"][0].as_py()
    assert text == plain["ocr"]["ocr_text"][0].as_py().replace("jane@example.org", "<EMAIL>")
    assert samples.from_table(masked["samples"])[0].messages[-1].text == text
    assert masked["ocr"]["ocr_notes"][0].as_py() == [{"rewrite": "mask_pii", "what": "email", "count": 1}]
