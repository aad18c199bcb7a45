"""Conversations in every container, whole and damaged: every fault is told where it is."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_engine.media import decode_image
from data_engine.sample import Trial, to_table
from data_engine.sources import conversations, records
from data_engine.sources.common import MAX_RECORD, RecordError
from tests.data_engine.sources.helpers import read_all


def test_easy_vqa_lines_become_conversations(corpora, store):
    root = corpora / "easy_vqa"
    units = conversations.units(root, {})
    lines = (root / "train.jsonl").read_bytes().splitlines(keepends=True)
    good, bad = read_all(conversations, root, store, units=units[-1:])
    first = len(lines) - len(good)
    offset = sum(map(len, lines[:first]))
    assert bad == [] and units[-1] == f"train.jsonl@{offset}-{sum(map(len, lines))}"
    for sample, line in zip(good, lines[first:], strict=True):
        row = json.loads(line)
        assert "<image>\n" + sample.messages[0].text == row["conversations"][0]["value"]
        assert sample.messages[1].text == row["conversations"][1]["value"]
        assert store.read(sample.media[0].key) == (root / row["image"]).read_bytes()
        assert sample.origin == f"train.jsonl@{offset}"
        offset += len(line)


def test_champ_is_read_from_one_file(corpora, store):
    good, bad = read_all(conversations, corpora / "champ" / "champ.jsonl", store, {"unit_bytes": 30_000})
    assert (len(good), bad) == (270, [])
    assert all(sample.messages[1].text.splitlines()[-1].startswith("Answer: ") for sample in good)
    assert len({sample.group for sample in good}) == 270


def told_of(root: Path, store: Any, **more: Any) -> tuple[Any, Any]:
    """The sample of a row with these keys, and (field, reason) if it is refused."""
    (root / "rows.jsonl").write_text(json.dumps({"conversations": TURNS, **more}))
    good, bad = read_all(conversations, root, store)
    return (good or [None])[0], [(record.field, record.reason) for record in bad]


@pytest.mark.parametrize("correct", [True, False, 1, 0])
def test_a_trial_is_right_or_wrong_and_has_a_length(correct, root, store):
    sample, bad = told_of(root, store, trials=[{"correct": correct, "tokens": 2**31 - 1}])
    assert bad == [] and sample.trials == (Trial(bool(correct), 2**31 - 1),)
    assert to_table([sample])["trials"].to_pylist() == [[{"correct": bool(correct), "tokens": 2**31 - 1}]]


@pytest.mark.parametrize(
    "trials",
    [
        *([{"correct": correct, "tokens": 7}] for correct in ("false", "no", 2, -1, 1.0, None, [])),
        *([{"correct": True, "tokens": tokens}] for tokens in (3_000_000_000, -5, "7", 1.5, True, None)),
        *([{"correct": True}], [3], "yes", {"correct": True}, 0, False),
    ],
)
def test_a_trial_of_another_type_is_quarantined(trials, root, store):
    sample, ((field, reason),) = told_of(root, store, trials=trials)
    assert sample is None and field == "trials" and reason


@pytest.mark.parametrize(
    ("row", "licence"),
    [
        ({"license": "CC-BY-NC-4.0"}, "CC-BY-NC-4.0"),
        ({"licence": "A", "license": "B"}, "A, B"),
        ({"licence": "A", "license": "A"}, "A"),
        ({"license": None}, "MIT"),
    ],
)
def test_a_rows_licence_in_either_spelling_goes_before_the_sources(row, licence, root, store):
    assert told_of(root, store, **row)[0].licence == licence
    pq.write_table(pa.Table.from_pylist([{"messages": TURNS, **row}]), root / "rows.parquet")
    (root / "rows.jsonl").unlink()
    assert read_all(conversations, root, store)[0][0].licence == licence


TURNS = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]


@pytest.fixture
def pictures(root: Path, tmp_path: Path) -> Path:
    for index in range(3):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(root / f"{index}.png")
    (root / "empty.png").touch()
    Image.new("RGB", (8, 8)).save(tmp_path / "outside.png")
    (root / "link.png").symlink_to(tmp_path / "outside.png")
    (root / "circle.png").symlink_to(root / "ring.png")
    (root / "ring.png").symlink_to(root / "circle.png")
    return root


FAULTS: list[tuple[Any, str, str]] = [
    ({"id": 1}, "conversations", "missing"),
    ({"conversations": []}, "conversations", "empty"),
    ({"conversations": {"from": "human"}}, "conversations", "wrong type"),
    ({"conversations": [3, *TURNS]}, "conversations[0]", "must be an object, not a int"),
    ({"conversations": TURNS[::-1]}, "conversations[0]", "out of order: assistant where user is due"),
    ({"conversations": [TURNS[0], *TURNS]}, "conversations[1]", "out of order: user where assistant is due"),
    ({"conversations": [*TURNS, {"from": "system", "value": "x"}]}, "conversations[2]", "out of order: system"),
    ({"conversations": [{"from": "human", "value": "a\0b"}, TURNS[1]]}, "conversations[0].value", "NUL byte"),
    ({"task": 3, "conversations": TURNS}, "task", "must be text"),
    ({"video": "a.mp4", "conversations": TURNS}, "video", "no videos"),
    ({"images": ["0.png", "0.png"], "conversations": TURNS}, "image", "named twice: '0.png'"),
    ({"image": "data.jsonl", "conversations": TURNS}, "image", "cyclic"),
    ({"image": "circle.png", "conversations": TURNS}, "image", "circle of links"),
    ({"image": "0\0.png", "conversations": TURNS}, "image", "NUL byte"),
    ({"image": "x" * 300, "conversations": TURNS}, "image", "too long"),
    ({"images": [["0.png"]], "conversations": TURNS}, "image", "must be a path"),
    ({"conversations": TURNS[:1]}, "conversations", "assistant"),
    ({"conversations": [*TURNS, {"from": "gpt"}]}, "conversations[2].value", "missing"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content", "must be text"),
    ({"conversations": [{"from": "robot", "value": "x"}]}, "conversations[0].from", "robot"),
    ({"conversations": [TURNS[0], {"from": "gpt", "value": " "}]}, "conversations[1].value", "empty"),
    ({"image": "../outside.png", "conversations": TURNS}, "image", "leaves the corpus folder"),
    ({"image": "/etc/passwd", "conversations": TURNS}, "image", "leaves the corpus folder"),
    ({"image": "link.png", "conversations": TURNS}, "image", "leaves the corpus folder"),
    ({"image": "absent.png", "conversations": TURNS}, "image", "no such file"),
    ({"image": "empty.png", "conversations": TURNS}, "image", "empty file"),
    ({"image": 3, "conversations": TURNS}, "image", "must be a path"),
    ({"conversations": [{"from": "human", "value": "<image>?"}, TURNS[1]]}, "image", "shows 1 images"),
    ([1, 2], "json", "must be an object"),
]


def test_each_planted_fault_is_named_by_line_and_field(pictures, store):
    lines = [json.dumps(row).encode() for row, _, _ in FAULTS]
    lines += [b'{"conversations": [', b'{"id": "\xff"}', b'{"id": "\0"}']
    fine = json.dumps({"image": "0.png", "conversations": TURNS}).encode()
    data = b"\n".join([fine, *lines, fine])
    (pictures / "data.jsonl").write_bytes(data)
    good, bad = read_all(conversations, pictures, store)
    assert [sample.origin for sample in good] == ["data.jsonl:1", f"data.jsonl:{len(lines) + 2}"]
    expected = [(field, reason) for _, field, reason in FAULTS] + [
        ("json", "not JSON"),
        ("json", "not UTF-8 at byte 8"),
        ("json", "NUL byte at byte 8"),
    ]
    assert [record.locator for record in bad] == [f"data.jsonl:{n}" for n in range(2, len(lines) + 2)]
    for record, (field, reason) in zip(bad, expected, strict=True):
        assert record.field == field and reason in record.reason, record


def test_images_are_shown_where_the_text_says(pictures, store):
    row = {
        "images": ["0.png", "1.png", "2.png"],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Is <image> like <image>?\n<image>\nOr this?"},
            {"role": "assistant", "content": "No."},
        ],
    }
    (pictures / "data.jsonl").write_text(json.dumps(row))
    (sample,), _ = read_all(conversations, pictures, store)
    parts = [part.text if part.kind == "text" else part.media for part in sample.messages[1].parts]
    assert parts == ["Is ", (0,), " like ", (1,), "?", (2,), "Or this?"]
    assert [decode_image(store.read(m.key))[0, 0, 0] for m in sample.media] == [0, 1, 2]
    assert [message.role for message in sample.messages] == ["system", "user", "assistant"]


def test_gzipped_lines_are_read_and_a_cut_gzip_is_told(pictures, store):
    lines = [json.dumps({"id": n, "image": "0.png", "conversations": TURNS}) for n in range(2000)]
    packed = gzip.compress("\n".join(lines).encode(), mtime=0)
    (pictures / "data.jsonl.gz").write_bytes(packed)
    good, bad = read_all(conversations, pictures, store)
    assert (len(good), bad) == (2000, [])
    (pictures / "data.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    some, bad = read_all(conversations, pictures, store)
    assert 0 < len(some) < 2000 and [record.field for record in bad] == ["file"]
    (pictures / "data.jsonl.gz").write_bytes(b"")
    none, bad = read_all(conversations, pictures, store)
    assert none == [] and bad[0].reason == "empty file"


def row(number: int, **more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": "human", "value": f"{number}?"}, {"from": "gpt", "value": "Yes."}], **more}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """The rows in the container that the path's suffix names."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    elif path.name.endswith(".json"):
        path.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    elif path.name.endswith(".json.gz"):
        path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    else:
        lines = "\n".join(json.dumps(item, ensure_ascii=False) for item in rows).encode()
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)


CONTAINERS = ["a.jsonl", "a.json", "a.parquet", "a.jsonl.gz", "a.json.gz"]


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_same_rows_in_order(name, root, store):
    rows = [row(n, note='猫]}\\"[,' * (n % 5)) for n in range(100)]
    write(root / name, rows)
    good, bad = read_all(conversations, root, store, {"unit_bytes": 500})
    assert bad == [] and [sample.messages[0].text for sample in good] == [f"{n}?" for n in range(100)]
    assert len({sample.origin for sample in good}) == 100
    if not name.endswith(".gz"):
        assert len(conversations.units(root, {"unit_bytes": 500})) > 10


@pytest.mark.parametrize("name", CONTAINERS)
def test_where_a_fault_is_leads_to_its_row(name, root, store):
    rows = [row(n) for n in range(60)]
    rows[50]["conversations"][0]["from"] = "robot"
    write(root / name, rows)
    good, (fault,) = read_all(conversations, root, store, {"unit_bytes": 600})
    assert len(good) == 59 and "robot" in fault.reason
    if "[" in fault.locator:
        assert fault.locator == f"{name}[50]"
    elif ":" in fault.locator:
        assert fault.locator == f"{name}:51"
    else:
        _, _, offset = fault.locator.rpartition("@")
        assert json.loads((root / name).read_bytes()[int(offset) :].splitlines()[0]) == rows[50]


def test_a_row_may_say_its_own_task_and_rights(root, store):
    samples = [{"correct": True, "tokens": 4}]
    own = row(0, task="counting", licence="CC0", attribution="them", id=7, samples=samples)
    write(root / "a.jsonl", [own, row(1)])
    (first, second), bad = read_all(conversations, root, store)
    assert bad == []
    assert (first.task, first.licence, first.attribution) == ("counting", "CC0", "them")
    assert (second.task, second.licence, second.attribution) == ("task", "MIT", "us")


def test_images_inside_parquet_are_stored(pictures, store):
    data = (pictures / "0.png").read_bytes()
    rows = [
        row(0, image={"bytes": data, "path": None}),
        row(1, image={"bytes": b"no image", "path": "x.png"}),
        row(2, image={"bytes": None, "path": "1.png"}),
        row(3, image=None),
    ]
    write(pictures / "a.parquet", rows)
    good, bad = read_all(conversations, pictures, store)
    assert [[store.read(m.key) for m in sample.media] for sample in good] == [
        [data],
        [(pictures / "1.png").read_bytes()],
        [],
    ]
    assert [(r.locator, r.field) for r in bad] == [("a.parquet[1]", "image")] and "not an image" in bad[0].reason


def test_parquet_faults(root, store):
    write(root / "half.parquet", [row(n) for n in range(50)])
    data = (root / "half.parquet").read_bytes()
    (root / "half.parquet").write_bytes(data[: len(data) // 2])
    (root / "empty.parquet").touch()
    pq.write_table(pa.table({"messages": pa.array([], pa.string())}), root / "none.parquet")
    texts = pa.array(["fine", "b\xe9d"], pa.string())
    broken = pa.StringArray.from_buffers(2, pa.array([0, 4, 7], pa.int32()).buffers()[1], pa.py_buffer(b"fineb\xe9d"))
    assert len(texts) == len(broken)
    pq.write_table(pa.table({"messages": [[{"role": "user", "content": "x"}]] * 2, "task": broken}), root / "l.parquet")
    good, bad = read_all(conversations, root, store)
    assert good == []
    assert {r.locator: r.reason.split(":")[0] for r in bad} == {
        "half.parquet": "cannot be read",
        "empty.parquet": "empty file",
        "none.parquet": "holds no row",
        "l.parquet[0]": "no turn of the assistant to learn from",
        "l.parquet[1]": "not UTF-8 at byte 1",
    }


@pytest.mark.parametrize(
    ("data", "locator", "reason"),
    [
        (b"", "a.json", "empty file"),
        (b" \n", "a.json", "empty file"),
        (b"[ ]", "a.json", "empty array"),
        (b" " * 3_000_000 + b"[FINE, 7]", "a.json[1]", "must be an object"),
        (b'{"a": 1}', "a.json", "must hold an array of rows, begins with b'{"),
        (b'[{"a": 1}, {"b', "a.json", "truncated"),
        (b"[FINE,,FINE]", "a.json", "no row before or behind"),
        (b"[FINE] [FINE]", "a.json", "more after the array's end"),
        (b"[FINE, 7]", "a.json[1]", "must be an object, not a int"),
        (b'[FINE, {"x": \xff}]', "a.json[1]", "not UTF-8"),
        (b'[FINE, {"x": "a"b"}, FINE]', "a.json[1]", "not JSON"),
    ],
)
def test_damaged_arrays_are_told(data, locator, reason, root, store):
    fine = json.dumps(row(1)).encode()
    (root / "a.json").write_bytes(data.replace(b"FINE", fine))
    good, bad = read_all(conversations, root, store)
    assert (locator, True) in [(record.locator, reason in record.reason) for record in bad]
    assert len(good) <= data.count(b"FINE")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz", "a.json.gz"])
def test_a_row_of_fifty_megabytes_is_set_aside_by_its_size(name, root, store):
    array = ".json." in f"{name}." and "jsonl" not in name
    huge = json.dumps(row(1, pad="x" * MAX_RECORD)).encode()
    joined = (b"," if array else b"\n").join([json.dumps(row(0)).encode(), huge, json.dumps(row(2)).encode()])
    data = b"[" + joined + b"]" if array else joined
    (root / name).write_bytes(gzip.compress(data, 1) if name.endswith("gz") else data)
    good, bad = read_all(conversations, root, store)
    assert [sample.messages[0].text for sample in good] == ["0?", "2?"]
    assert [record.reason for record in bad] == [
        f"{'row' if array else 'line'} of {len(huge):,} bytes; the limit is 50,000,000"
    ]


def test_a_gzip_bomb_is_not_unpacked_to_its_end(root, store):
    with gzip.open(root / "a.jsonl.gz", "wb", compresslevel=1) as stream:
        stream.write(json.dumps(row(0)).encode() + b"\n")
        for _ in range(300):
            stream.write(bytes(1 << 20))
    good, bad = read_all(conversations, root, store)
    assert len(good) == 1 and "decompression bomb" in bad[-1].reason


values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(max_size=5), values, max_size=4), min_size=1, max_size=12), st.integers(1, 90))
def test_units_of_any_size_give_back_all_rows(tmp_path_factory, rows, unit_bytes):
    """The oracle is the json module: whatever stands in strings, no row is cut or lost."""
    root = tmp_path_factory.mktemp("corpus")
    for name in ("a.json", "a.jsonl"):
        write(root / name, rows)
        units = [unit for unit in records.units(root, unit_bytes) if unit.startswith(f"{name}@")]
        assert [found for unit in units for _, found in records.rows(root, unit, ())] == rows


@given(st.binary(max_size=200), st.sampled_from(["a.json", "a.jsonl", "a.json.gz", "a.jsonl.gz", "a.parquet"]))
def test_any_bytes_at_all_are_read_or_told(tmp_path_factory, data, name):
    root = tmp_path_factory.mktemp("corpus")
    (root / name).write_bytes(data)
    found = [item for unit in records.units(root, 50) for _, item in records.rows(root, unit, ())]
    assert found and all(isinstance(item, dict | RecordError) for item in found)
