"""Tasks out and decisions back, and the commands that do it."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from cot_factory.record import Box, Decision, Shown
from cot_factory.review import interchange
from cot_factory.review.cli import app
from tests.cot_factory.review.annotators import some_tasks, write_queue

DECISIONS = [
    Decision("task-000000", "ann", "accept"),
    Decision("task-000001", "ann", "fix", ("First,\nin two lines.", 'Then "quoted" <b>.'), "8", "better"),
    Decision("task-000002", "bob", "reject", why="=1+1 is\u2028wrong"),
    Decision("task-000003", "bob", "escalate", why="算不清"),
]


def labelled(decision: Decision) -> dict[str, Any]:
    """An annotation as Label Studio exports it (see the fixture of a real one)."""
    result = [
        {"from_name": "action", "to_name": "question", "type": "choices", "value": {"choices": [decision.action]}},
        {"from_name": "why", "to_name": "question", "type": "textarea", "value": {"text": [decision.why]}},
        {"from_name": "answer", "to_name": "question", "type": "textarea", "value": {"text": [decision.answer]}},
        {
            "from_name": "steps",
            "to_name": "question",
            "type": "textarea",
            "value": {"text": [interchange.joined(decision.steps)]},
        },
    ]
    return {"completed_by": {"id": 1, "email": decision.annotator}, "lead_time": 12.5, "result": result}


def test_label_studio_there_and_back() -> None:
    tasks = some_tasks(4)
    exported = interchange.to_label_studio(tasks, {})
    assert [one["data"]["id"] for one in exported] == [task.id for task in tasks]
    assert interchange.parted(exported[1]["data"]["steps"]) == tuple(step.text for step in tasks[1].steps)
    names = {
        node.attrib["name"] for node in ElementTree.fromstring(interchange.LABEL_CONFIG).iter() if "name" in node.attrib
    }
    values = {
        node.attrib["value"][1:]
        for node in ElementTree.fromstring(interchange.LABEL_CONFIG).iter()
        if node.attrib.get("value", "").startswith("$")
    }
    assert values <= set(exported[0]["data"])
    assert {"action", "steps", "answer", "why", "boxes"} <= names
    done = [one | {"annotations": [labelled(decision)]} for one, decision in zip(exported, DECISIONS, strict=True)]
    found, faults = interchange.from_label_studio(json.loads(json.dumps(done)))
    assert faults == []
    assert [(one.task, one.annotator, one.action, one.steps, one.answer, one.why) for one in found] == [
        (one.task, one.annotator, one.action, one.steps, one.answer, one.why) for one in DECISIONS
    ]
    assert {one.seconds for one in found} == {12.5}


def test_a_real_export_is_read() -> None:
    """Of Label Studio 1.23.2, recorded by `python benchmarks/label_studio.py --keep`."""
    exported = json.loads(Path(__file__).with_name("label_studio_export.json").read_text(encoding="utf-8"))
    found, faults = interchange.from_label_studio(exported, {1: "ann"})
    assert faults == []
    assert [(one.annotator, one.action) for one in found] == [
        ("ann", action) for action in ("accept", "fix", "reject", "escalate", "skip")
    ]
    assert found[1].steps == ("First,\nin two lines 1.", "Then $x^2$ & done.")
    assert found[1].answer == "1"
    assert found[2].why == '<b>"2"</b> 因为'


def test_boxes_go_out_in_percent_of_the_picture() -> None:
    task = replace(some_tasks(1)[0], media=(Shown("image", "k.png", boxes=(Box((10, 20, 30, 60)),)),))
    (found,) = interchange.to_label_studio([task], {"k.png": "http://host/k.png"}, {"k.png": (200, 100)})
    value = found["predictions"][0]["result"][0]["value"]
    assert (value["x"], value["y"], value["width"], value["height"]) == (5, 20, 10, 40)
    assert found["data"]["image"] == "http://host/k.png"


def test_what_is_no_decision_in_an_export_is_told() -> None:
    exported = interchange.to_label_studio(some_tasks(3), {})
    empty = labelled(Decision("", "ann", "fix"))
    done: list[dict[str, Any]] = [
        exported[0]
        | {"id": 7, "annotations": [{"completed_by": 3, "result": []}, {"completed_by": 3, "was_cancelled": True}]},
        exported[1] | {"id": 8, "annotations": [empty]},
        {"id": 9, "data": {"text": "of another project"}, "annotations": []},
    ]
    found, faults = interchange.from_label_studio(done)
    assert [(one.action, one.annotator) for one in found] == [("skip", "label-studio:3")]
    assert [(fault.where, fault.field) for fault in faults] == [
        ("task 7", "action"),
        ("task 8", "steps"),
        ("task 9", "data.id"),
    ]


def test_csv_there_and_back_with_cells_that_spreadsheets_would_run() -> None:
    tasks = [*some_tasks(4)[:3], replace(some_tasks(4)[3], question="=HYPERLINK(1)", answer="-3")]
    text = interchange.to_csv(tasks)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[3]["question"] == "'=HYPERLINK(1)"
    assert rows[3]["answer"] == "'-3"
    for row, decision in zip(rows, DECISIONS, strict=True):
        row |= {"action": decision.action, "annotator": decision.annotator, "why": decision.why}
        row |= {"new_steps": interchange.joined(decision.steps), "new_answer": decision.answer}
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0])
    writer.writeheader()
    writer.writerows([*rows, {"task": "task-000000", "action": "burn"}, {"task": "task-000001", "action": ""}])
    found, faults = interchange.from_csv(out.getvalue(), "filled.csv")
    assert found == DECISIONS
    assert [(fault.field, "burn" in fault.reason) for fault in faults] == [("action", True)]
    assert interchange.from_csv("a,b\n1,2\n", "x.csv")[1][0].where == "x.csv:1"


def test_json_lines_there_and_back() -> None:
    text = interchange.to_jsonl(DECISIONS)
    assert interchange.from_jsonl(text, "d.jsonl") == (DECISIONS, [])
    _, faults = interchange.from_jsonl(
        text + '{"task": 1}\n[]\n{"task":"t","annotator":"a","action":"burn"}\n', "d.jsonl"
    )
    assert [fault.where for fault in faults] == ["d.jsonl:5", "d.jsonl:6", "d.jsonl:7"]


def test_of_two_decisions_of_one_person_the_later_holds() -> None:
    later = Decision("task-000000", "ann", "reject", why="after all")
    found = interchange.merged(DECISIONS, [later])
    assert len(found) == 4
    assert later in found


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("form", ["label-studio", "csv", "jsonl"])
def test_the_commands_export_import_and_report(form: str, tmp_path: Path) -> None:
    write_queue(tmp_path, some_tasks(4))
    out = tmp_path / f"tasks.{'csv' if form == 'csv' else 'json'}"
    assert "4 tasks" in run("export", str(out), "--format", form, "--data", str(tmp_path))
    filled = tmp_path / f"filled.{'csv' if form == 'csv' else 'json'}"
    if form == "label-studio":
        done = [
            one | {"annotations": [labelled(d)]} for one, d in zip(json.loads(out.read_text()), DECISIONS, strict=True)
        ]
        filled.write_text(json.dumps(done))
    elif form == "csv":
        rows = list(csv.DictReader(io.StringIO(out.read_text())))
        for row, d in zip(rows, DECISIONS, strict=True):
            row |= {
                "action": d.action,
                "annotator": d.annotator,
                "why": d.why,
                "new_steps": interchange.joined(d.steps),
            }
            row["new_answer"] = d.answer
        with filled.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        filled.write_text(interchange.to_jsonl([*DECISIONS, Decision("unknown", "ann", "accept")]))
    told = run("import", str(filled), "--data", str(tmp_path), code=1 if form == "jsonl" else 0)
    assert "4 decisions read, 4 in all" in told
    assert ("'unknown' is no task" in told) == (form == "jsonl")
    kept, _ = interchange.from_jsonl((tmp_path / "review/decisions.jsonl").read_text())
    assert [(one.task, one.action, one.steps) for one in kept] == [
        (one.task, one.action, one.steps) for one in DECISIONS
    ]
    assert "Agreement" in run("report", "--data", str(tmp_path))


def test_wrong_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    assert "no tasks there" in run("export", "x.json", "--data", str(tmp_path), code=2)
    write_queue(tmp_path, some_tasks(1))
    assert "choose label-studio, csv, jsonl" in run("export", "x", "--format", "xml", "--data", str(tmp_path), code=2)
    assert "cannot be read" in run("import", str(tmp_path / "none.json"), "--data", str(tmp_path), code=2)
    (tmp_path / "bad.json").write_text("[{")
    assert "not JSON" in run("import", str(tmp_path / "bad.json"), "--data", str(tmp_path), code=2)
    assert "nothing is released yet" in run("audit", "--data", str(tmp_path), code=2)
    (tmp_path / "review/tasks.jsonl").write_text("{}\n")
    assert "tasks.jsonl:1: not a task" in run("report", "--data", str(tmp_path), code=2)
    assert "cannot be used" in run("load", "--data", str(tmp_path), "--db", "nosuch://x", code=2)


def test_decisions_of_the_queue_join_those_of_another_tool(tmp_path: Path) -> None:
    write_queue(tmp_path, some_tasks(4))
    run("load", "--data", str(tmp_path))
    (tmp_path / "review/decisions.jsonl").write_text(interchange.to_jsonl(DECISIONS))
    assert "4 decisions" in run("decisions", "--data", str(tmp_path))
    kept, _ = interchange.from_jsonl((tmp_path / "review/decisions.jsonl").read_text())
    assert kept == DECISIONS
