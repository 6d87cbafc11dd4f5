"""The package as npm has it: types, style, pure parts, and what it asks of others."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.runtime.js.hosts import HERE, PACKAGE

pytestmark = pytest.mark.usefixtures("built")
TOOLS = PACKAGE / "node_modules/.bin"


def run(*command: str | Path, folder: Path = HERE) -> str:
    """Run a command that must succeed; return what it prints."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_package_of_onnxruntime_is_what_the_runner_takes() -> None:
    run(TOOLS / "tsc", "-p", HERE)


@pytest.mark.parametrize("folder", [PACKAGE, HERE])
def test_sources_keep_the_style(folder: Path) -> None:
    run(TOOLS / "biome", "check", "--error-on-warnings", ".", folder=folder)


def test_pure_parts_do_what_they_say() -> None:
    told = run("node", "--test", "--test-reporter=tap", HERE / "pure.test.mjs")
    passed = re.search(r"^# pass (\d+)$", told, re.MULTILINE)
    assert passed and int(passed[1]) > 50


def test_the_lock_names_no_registry_and_pins_what_is_there() -> None:
    lock = json.loads((PACKAGE / "package-lock.json").read_text())
    assert not any("resolved" in entry for entry in lock["packages"].values())
    package = json.loads((PACKAGE / "package.json").read_text())
    pinned = package["dependencies"] | package["devDependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in pinned.values())


def test_importing_it_needs_no_onnxruntime(tmp_path: Path) -> None:
    (tmp_path / "dist").symlink_to(PACKAGE / "dist")
    modules = tmp_path / "node_modules"
    modules.mkdir()
    for name in json.loads((PACKAGE / "package.json").read_text())["dependencies"]:
        (modules / name).parent.mkdir(exist_ok=True)
        (modules / name).symlink_to(PACKAGE / "node_modules" / name)
    script = "import('./dist/index.js').then((m) => console.log(typeof m.EdgeRunner.load))"
    flags = ["--preserve-symlinks", "--preserve-symlinks-main"]
    assert run("node", *flags, "-e", script, folder=tmp_path) == "function\n"
