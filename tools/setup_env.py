"""Sets up everything on a machine with nothing installed; run by the system's own Python.

    python3 tools/setup_env.py          the environment in .venv, as requirements.lock pins it
    python3 tools/setup_env.py --lock   makes requirements.lock anew from pyproject.toml

Where packages come from is the clients' business: pip reads its own settings, and uv, which is quicker, is
given the same ones. A second run with nothing changed is instant; an interrupted run is done again.
"""

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements.lock"
PROJECT = ROOT / "pyproject.toml"
STAMP = VENV / "keyeforge-setup"
UV = "uv==0.13.9"
LOCKED_EXTRAS = ("data", "cot", "video", "train", "serve", "notebooks", "dev")
# pip's settings, what uv calls them, and what uv puts between several values.
SETTINGS = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "constraint": ("UV_CONSTRAINT", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "no-index": ("UV_NO_INDEX", " "),
    "cert": ("SSL_CERT_FILE", " "),
}


def main() -> None:
    """Makes the environment, or with `--lock` the lock file."""
    if "--lock" in sys.argv[1:]:
        make_venv()
        make_lock()
        return
    extras = needed_extras()
    wanted = fingerprint(extras)
    if not (STAMP.exists() and STAMP.read_text() == wanted and runs(PYTHON, "-c", "")):
        start = time.monotonic()
        set_up(extras)
        STAMP.write_text(wanted)
        print(f"set-up done in {time.monotonic() - start:.0f} s")
    subprocess.run([PYTHON, "-m", "data_engine.machine", "--missing"], cwd=ROOT, check=True)


def needed_extras() -> list[str]:
    """The extras whose wheels stand in for tools that this system has not."""
    sys.path.insert(0, str(ROOT))
    from data_engine import machine

    found = {"java": machine.java_home(), "ffmpeg": machine.ffmpeg_folder()}
    return [name for name, place in found.items() if place is None]


def fingerprint(extras: list[str]) -> str:
    """What an environment was made from: it is made anew when this changes."""
    parts = [LOCK.read_bytes(), PROJECT.read_bytes(), sys.version.encode(), str(ROOT).encode()]
    parts += [extra.encode() for extra in extras]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def set_up(extras: list[str]) -> None:
    """Everything, in order; the stamp is gone meanwhile, so that an interrupted run is done again."""
    STAMP.unlink(missing_ok=True)
    make_venv()
    optional = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    wheels = [requirement for extra in extras for requirement in optional[extra]]
    if wheels:
        print(f"the system lacks {' and '.join(extras)}: using {', '.join(wheels)}")
    install("-r", str(LOCK), *wheels)
    install("--no-deps", "--no-build-isolation", "-e", str(ROOT))
    if shutil.which("pdftoppm") is None:
        apt_install("poppler-utils")


def make_venv() -> None:
    """`.venv` with a working pip; one that does not run is replaced."""
    if runs(PYTHON, "-m", "pip", "--version"):
        return
    print(f"making {VENV}", flush=True)
    command = (sys.executable, "-m", "venv", "--clear", str(VENV))
    if runs(*command) or (apt_install("python3-venv") and runs(*command)):
        return
    sys.exit(f"{' '.join(command)} failed; on Debian: apt-get install python3-venv")


def install(*arguments: str) -> None:
    """Installs with uv if it can be had, else with pip. Exits with pip's status if both fail."""
    uv = find_uv()
    if uv and run(uv, "pip", "install", "--python", str(PYTHON), *arguments, env=uv_environment()):
        return
    if uv:
        print("uv could not install it; trying pip")
    if not run(str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", *arguments):
        sys.exit(f"{PYTHON} -m pip install {' '.join(arguments)} failed")


def find_uv() -> str | None:
    """uv on PATH, or installed into the environment by pip; None if it cannot be had."""
    beside = VENV / "bin" / "uv"
    if found := shutil.which("uv"):
        return found
    if beside.exists() or runs(PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", UV):
        return str(beside)
    return None


def uv_environment() -> dict[str, str]:
    """This environment with pip's settings under uv's names; what is set for uv already stays."""
    listing = subprocess.run([PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    # pip asks all its indexes for the best version; uv by default stops at the first that has any.
    found = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_HTTP_TIMEOUT": "180"}
    for key, values in parse_pip_settings(listing.stdout).items():
        name, separator = SETTINGS[key]
        found[name] = separator.join(values)
    return {**found, **os.environ}


def parse_pip_settings(listing: str) -> dict[str, list[str]]:
    """The settings uv shares, from `pip config list`; the environment's win over those in files."""
    found: dict[str, list[str]] = {}
    lines = sorted(listing.splitlines(), key=lambda line: line.startswith(":env:"))
    for line in lines:
        match = re.fullmatch(r"(?:global|install|:env:)\.([a-z-]+)=('.*'|\".*\")", line)
        if match and match[1] in SETTINGS:
            found[match[1]] = ast.literal_eval(match[2]).split()
    return found


def make_lock() -> None:
    """Resolves pyproject.toml with its locked extras to exact pins.

    The local part of a version (`+cpu`) is taken off: the pin then fits whichever build the client finds.
    """
    uv = find_uv()
    if uv is None:
        sys.exit(f"uv is needed to make the lock and could not be installed: pip install {UV}")
    # What the lock holds stays where it still fits; of torch there are several builds of one version, chosen anew.
    held = LOCK.with_name(".held.lock")
    held.write_text("".join(line for line in LOCK.open() if not line.startswith("torch==")))
    extras = [part for extra in LOCKED_EXTRAS for part in ("--extra", extra)]
    command = [
        uv,
        "pip",
        "compile",
        str(PROJECT),
        *extras,
        "--python",
        str(PYTHON),
        "--no-header",
        "--no-annotate",
        "--output-file",
        str(held),
    ]
    done = subprocess.run(command, env=uv_environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    found = held.read_text()
    held.unlink()
    if done.returncode:
        sys.exit(done.returncode)
    LOCK.write_text(re.sub(r"\+[a-z0-9.]+$", "", found, flags=re.MULTILINE))
    print(f"{LOCK.name}: {len(LOCK.read_text().splitlines())} pins")


def apt_install(package: str) -> bool:
    """Installs a Debian package if this is root on Debian, else does nothing. True if it is there now."""
    if os.geteuid() or shutil.which("apt-get") is None:
        return False
    print(f"apt-get install {package}", flush=True)
    install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", package)
    return runs(*install) or (runs("apt-get", "update") and runs(*install))


def runs(*command: str | Path) -> bool:
    """Runs a command in silence; True if it is there and succeeds."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def run(*command: str, env: dict[str, str] | None = None) -> bool:
    """Runs a command in sight and in this folder, whose pyproject.toml has settings for uv; True if it succeeds."""
    return subprocess.run(command, env=env, cwd=ROOT, check=False).returncode == 0


if __name__ == "__main__":
    main()
