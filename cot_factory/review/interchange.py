"""Tasks out to Label Studio, CSV and JSON lines, and decisions back from them."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from cot_factory.record import Action, Decision, Task, as_data, decision_from

ACTIONS: tuple[Action, ...] = get_args(Action)
DECISION_FIELDS = ("task", "annotator", "action", "steps", "answer", "why", "seconds", "adjudicated")
STEP_BREAK = "\n---\n"
"""Between the steps in a text area or a cell: one step may have several lines."""

LABEL_CONFIG = """<View>
  <Header value="$domain"/>
  <Image name="image" value="$image"/>
  <Text name="question" value="$question"/>
  <Text name="reference" value="$reference"/>
  <Header value="Steps, with a line of --- between them"/>
  <TextArea name="steps" toName="question" value="$steps" rows="12" maxSubmissions="1" editable="true"/>
  <Header value="Answer"/>
  <TextArea name="answer" toName="question" value="$answer" rows="1" maxSubmissions="1" editable="true"/>
  <Choices name="action" toName="question" choice="single" required="true">
    <Choice value="accept"/>
    <Choice value="fix"/>
    <Choice value="reject"/>
    <Choice value="skip"/>
    <Choice value="escalate"/>
  </Choices>
  <TextArea name="why" toName="question" placeholder="why, for a reject or an escalation" rows="2" maxSubmissions="1"/>
  <RectangleLabels name="boxes" toName="image">
    <Label value="marked"/>
  </RectangleLabels>
</View>
"""
"""The labelling interface that `to_label_studio` is made for."""

EMPTY_IMAGE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4"
    "2mNkYPj/HwADBwIAMCbHYQAAAABJRU5ErkJggg=="
)
"""One pixel: the interface has a picture, and not every task."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that is no decision: where it is, which field is wrong, and what to do."""

    where: str
    field: str
    reason: str


def joined(steps: Sequence[str]) -> str:
    return STEP_BREAK.join(steps)


def parted(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(STEP_BREAK) if part.strip())


def to_label_studio(
    tasks: Iterable[Task], image_of: Mapping[str, str], sizes: Mapping[str, tuple[int, int]] | None = None
) -> list[dict[str, Any]]:
    """Tasks as Label Studio imports them. `image_of`: an address that a browser can open for each medium's key;
    `sizes`: width and height of those pictures whose boxes are to be shown. Controls go out as tasks like any other.
    """
    return [_exported(task, image_of, sizes or {}) for task in tasks]


def _exported(task: Task, image_of: Mapping[str, str], sizes: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    shown = next((one for one in task.media if one.kind == "image"), None)
    data = {
        "id": task.id, "domain": task.domain, "question": task.question, "reference": task.reference,
        "steps": joined([step.text for step in task.steps]), "answer": task.answer,
        "image": image_of.get(shown.key, EMPTY_IMAGE) if shown else EMPTY_IMAGE,
    }  # fmt: skip
    boxes = [_rectangle(box.box, sizes[shown.key]) for box in shown.boxes] if shown and shown.key in sizes else []
    exported: dict[str, Any] = {"data": data}
    if boxes:
        exported["predictions"] = [{"model_version": "keyeforge", "result": boxes}]
    return exported


def _rectangle(box: tuple[float, float, float, float], size: tuple[int, int]) -> dict[str, Any]:
    """A box in percent of the picture, as Label Studio has them."""
    (left, top, right, bottom), (width, height) = box, size
    value = {"x": 100 * left / width, "y": 100 * top / height, "rotation": 0, "rectanglelabels": ["marked"]}
    value |= {"width": 100 * (right - left) / width, "height": 100 * (bottom - top) / height}
    about = {"original_width": width, "original_height": height, "image_rotation": 0, "type": "rectanglelabels"}
    return {"from_name": "boxes", "to_name": "image", "value": value, **about}


def from_label_studio(
    exported: Sequence[Mapping[str, Any]], people: Mapping[int, str] | None = None
) -> tuple[list[Decision], list[Fault]]:
    """The decisions in a JSON export of Label Studio; a cancelled annotation is a skip. Exports name people by their
    numbers: `people` has their names, else it is `label-studio:1`.
    """
    found: list[Decision] = []
    faults: list[Fault] = []
    for number, task in enumerate(exported, start=1):
        where = f"task {task.get('id', number)}"
        if not isinstance(task.get("data"), dict) or "id" not in task["data"]:
            faults.append(Fault(where, "data.id", "is missing; export tasks that Keyeforge wrote"))
            continue
        for annotation in task.get("annotations") or ():
            item = _annotation(task["data"], annotation, people or {}, where)
            (found if isinstance(item, Decision) else faults).append(item)  # type: ignore[arg-type]
    return found, faults


def _annotation(
    data: Mapping[str, Any], annotation: Mapping[str, Any], people: Mapping[int, str], where: str
) -> Decision | Fault:
    who = annotation.get("completed_by")
    name = str(who["email"]) if isinstance(who, dict) else people.get(who or 0, f"label-studio:{who}")
    seconds = float(annotation.get("lead_time") or 0)
    if annotation.get("was_cancelled"):
        return Decision(data["id"], name, "skip", seconds=seconds)
    said = {one.get("from_name"): one.get("value", {}) for one in annotation.get("result") or ()}
    action = next(iter(said.get("action", {}).get("choices", ())), None)
    if action not in ACTIONS:
        return Fault(where, "action", f"{action!r} is none of {', '.join(ACTIONS)}; choose one in Label Studio")
    texts = {name: "\n".join(said.get(name, {}).get("text", ())) for name in ("steps", "answer", "why")}
    is_fix = action == "fix"
    if is_fix and not parted(texts["steps"]):
        return Fault(where, "steps", "a fix without steps; write them, with a line of --- between them")
    steps = parted(texts["steps"]) if is_fix else ()
    return Decision(data["id"], name, action, steps, texts["answer"] if is_fix else "", texts["why"], seconds)


def to_csv(tasks: Iterable[Task]) -> str:
    """Tasks as a table for spreadsheets; `action`, `new_steps`, `new_answer`, `why`, `annotator` are to be filled."""
    out = io.StringIO()
    fields = ["task", "domain", "tier", "question", "reference", "answer", "steps"]
    writer = csv.DictWriter(out, [*fields, *_FILLED])
    writer.writeheader()
    for task in tasks:
        row = {"task": task.id, "steps": joined([step.text for step in task.steps])}
        row |= {name: getattr(task, name) for name in fields if name not in row}
        writer.writerow({name: _harmless(value) for name, value in row.items()})
    return out.getvalue()


_FILLED = ("action", "new_steps", "new_answer", "why", "annotator")


def _harmless(cell: str) -> str:
    """Spreadsheets run what begins like a formula; an apostrophe makes it text."""
    return f"'{cell}" if cell[:1] in {"=", "+", "-", "@", "\t", "\r"} else cell


def from_csv(text: str, name: str = "file") -> tuple[list[Decision], list[Fault]]:
    """The decisions in a table that people filled; rows without an action are not decided yet."""
    found: list[Decision] = []
    faults: list[Fault] = []
    reader = csv.DictReader(io.StringIO(text))
    missing = {"task", *_FILLED} - set(reader.fieldnames or ())
    if missing:
        return [], [Fault(f"{name}:1", ", ".join(sorted(missing)), "columns are missing; fill the table as exported")]
    for row in reader:
        if not (row["action"] or "").strip():
            continue
        item = _row(row, f"{name}:{reader.line_num}")
        (found if isinstance(item, Decision) else faults).append(item)  # type: ignore[arg-type]
    return found, faults


def _row(row: Mapping[str, str], where: str) -> Decision | Fault:
    action = row["action"].strip().lower()
    if action not in ACTIONS:
        return Fault(where, "action", f"{action!r} is none of {', '.join(ACTIONS)}")
    if not row["annotator"].strip():
        return Fault(where, "annotator", "is empty; say who decided")
    if action == "fix" and not parted(row["new_steps"]):
        return Fault(where, "new_steps", "a fix without steps; write them, with a line of --- between them")
    steps = parted(row["new_steps"]) if action == "fix" else ()
    answer = row["new_answer"] if action == "fix" else ""
    return Decision(row["task"].strip().lstrip("'"), row["annotator"].strip(), action, steps, answer, row["why"])


def to_jsonl(records: Iterable[Task | Decision]) -> str:
    return "".join(json.dumps(as_data(one), ensure_ascii=False) + "\n" for one in records)


def from_jsonl(text: str, name: str = "file") -> tuple[list[Decision], list[Fault]]:
    found: list[Decision] = []
    faults: list[Fault] = []
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        try:
            one = decision_from(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            faults.append(
                Fault(f"{name}:{number}", "", f"not a decision ({error}); its fields: {', '.join(DECISION_FIELDS)}")
            )
            continue
        if one.action in ACTIONS:
            found.append(one)
        else:
            faults.append(Fault(f"{name}:{number}", "action", f"{one.action!r} is none of {', '.join(ACTIONS)}"))
    return found, faults


def merged(old: Iterable[Decision], new: Iterable[Decision]) -> list[Decision]:
    """All decisions; of two by one person on one task the later holds."""
    return list({(one.task, one.annotator, one.adjudicated): one for one in [*old, *new]}.values())
