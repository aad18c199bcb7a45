"""Our export in a real Label Studio, and its export back with us.

    python benchmarks/label_studio.py [--tasks 120] [--keep FILE]

Starts the label-studio package in an environment of its own (build/peers) on a free port, makes a project with our
labelling interface, imports the tasks, annotates them through its API as its page would (accept, fix, reject, escalate
and cancelled ones by turns), exports the project, reads the export, and holds every decision against what was said.
`--keep` writes the export of five tasks, the fixture of the tests.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import peers  # noqa: E402
from measuring import save  # noqa: E402

from cot_factory.record import Decision  # noqa: E402
from cot_factory.review import interchange  # noqa: E402
from tests.cot_factory.review.annotators import some_tasks  # noqa: E402

USER, PASSWORD, TOKEN = "reviewer@example.org", "correct horse battery", "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def server() -> Iterator[str]:
    """A fresh Label Studio's address; it and its data are gone in the end."""
    program = peers.python("label_studio").with_name("label-studio")
    with socket.socket() as free, tempfile.TemporaryDirectory() as scratch:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [program, "start", "--no-browser", "--port", str(port), "--data-dir", scratch, "--username", USER]
        command += ["--password", PASSWORD, "--user-token", TOKEN, "--enable-legacy-api-token", "--log-level", "ERROR"]
        quiet = {
            "COLLECT_ANALYTICS": "False",
            "LATEST_VERSION_CHECK": "False",
            "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "1",
        }
        with (Path(scratch) / "log").open("wb") as log:
            process = subprocess.Popen(command, env={**os.environ, **quiet}, stdout=log, stderr=log)
        address = f"http://127.0.0.1:{port}"
        try:
            _wait(address, process, Path(scratch) / "log")
            yield address
        finally:
            process.kill()
            process.wait()


def _wait(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError, urllib.error.HTTPError):
            call(address, "GET", "/api/version")
            return
        time.sleep(0.5)
    sys.exit(f"Label Studio did not come up:\n{log.read_text(errors='replace')[-3000:]}")


def call(address: str, method: str, path: str, body: Any = None) -> Any:
    """What its API answers. Exits with its words where it refuses."""
    request = urllib.request.Request(f"{address}{path}", method=method, headers={"Authorization": f"Token {TOKEN}"})
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            text = reply.read()
    except urllib.error.HTTPError as error:
        if error.code >= 500 or path == "/api/version":
            raise
        sys.exit(f"{method} {path}: {error.code}: {error.read().decode()[:2000]}")
    return json.loads(text) if text else None


def annotation(decision: Decision) -> dict[str, Any]:
    """What Label Studio's page sends for a decision."""

    def area(name: str, text: str) -> dict[str, Any]:
        return {"from_name": name, "to_name": "question", "type": "textarea", "value": {"text": [text]}}

    if decision.action == "skip":
        return {"result": [], "was_cancelled": True, "lead_time": 2.0}
    choice = {"from_name": "action", "to_name": "question", "type": "choices", "value": {"choices": [decision.action]}}
    result = [choice, *([area("why", decision.why)] if decision.why else [])]
    if decision.action == "fix":
        result += [area("steps", interchange.joined(decision.steps)), area("answer", decision.answer)]
    return {"result": result, "lead_time": 12.5}


def decided(number: int, task: str) -> Decision:
    """Every action by turns, with several lines, quotes, tags and Chinese."""
    action = ("accept", "fix", "reject", "escalate", "skip")[number % 5]
    why = "" if action in {"accept", "skip"} else f'<b>"{number}"</b> 因为'
    steps = (f"First,\nin two lines {number}.", "Then $x^2$ & done.") if action == "fix" else ()
    answer = str(number) if action == "fix" else ""
    return Decision(task, USER, action, steps, answer, why, 2.0 if action == "skip" else 12.5)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=120)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    tasks = some_tasks(options.tasks)
    with server() as address:
        version = call(address, "GET", "/api/version")["label-studio-os-package"]["version"]
        made = call(address, "POST", "/api/projects", {"title": "chains", "label_config": interchange.LABEL_CONFIG})
        project = made["id"]
        call(address, "POST", f"/api/projects/{project}/import", interchange.to_label_studio(tasks, {}))
        listed = call(address, "GET", f"/api/tasks?project={project}&page_size={2 * options.tasks}&fields=all")["tasks"]
        wanted = [decided(number, one["data"]["id"]) for number, one in enumerate(listed)]
        for one, decision in zip(listed, wanted, strict=True):
            call(address, "POST", f"/api/tasks/{one['id']}/annotations", annotation(decision))
        exported = call(address, "GET", f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true")
    found, faults = interchange.from_label_studio(exported, {1: USER})
    by_task = {one.task: one for one in found}
    same = sum(by_task.get(one.task) == one for one in wanted)
    print(f"Label Studio {version}: {len(listed)} of {len(tasks)} tasks imported, {len(found)} annotated and read back")
    print(
        f"decisions that came back as they were made: {same} of {len(wanted)}; faults: {[one.reason for one in faults]}"
    )
    print("by action:", dict(Counter(one.action for one in found)))
    if same < len(wanted):
        print(
            "the first that differs:",
            next((one, by_task.get(one.task)) for one in wanted if by_task.get(one.task) != one),
        )
    if options.keep:
        options.keep.write_text(json.dumps(exported[:5], indent=1, ensure_ascii=False) + "\n")
    save("label_studio", {"version": version, "tasks": len(tasks), "imported": len(listed), "same": same})


if __name__ == "__main__":
    main()
