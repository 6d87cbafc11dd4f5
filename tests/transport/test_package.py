"""The wheel of the lean runner."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edge_lra.transport.package import Wheel, build_wheel
from tests.transport.conftest import REQUESTS


@pytest.fixture(scope="module")
def wheel() -> Wheel:
    return build_wheel()


@pytest.fixture(scope="module")
def file(wheel: Wheel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("a wheel") / wheel.name
    path.write_bytes(wheel.data)
    return path


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with numpy, onnxruntime and safetensors alone."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    names = ("numpy", "onnxruntime", "safetensors")
    pins = [f"{name}=={importlib.metadata.version(name)}" for name in names]
    # What onnxruntime requires besides them, the agent does not import: it is left out.
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, *pins], check=True)
    return folder / "bin/python"


def ask(python: Path, request: dict[str, Any], folder: Path, path: str = "") -> dict[str, Any]:
    done = subprocess.run(
        [python, "-P", "-m", "edge_lra.agent"],
        input=json.dumps(request),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_it_is_small_and_the_same_each_time(wheel: Wheel) -> None:
    assert len(wheel.data) < 100_000
    assert build_wheel() == wheel


def test_it_holds_no_heavy_part(file: Path) -> None:
    names = zipfile.ZipFile(file).namelist()
    assert "edge_lra/agent/__main__.py" in names
    rooms = {name.split("/")[1] for name in names if name.count("/") > 1}
    assert rooms <= {"agent", "products", "runner"}
    heavy = ("pipeline.py", "oracle.py", "products/write.py")
    assert not {f"edge_lra/{name}" for name in heavy} & set(names)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request["what"])
def test_it_answers_as_a_zip_beside_three_packages(
    file: Path, bare: Path, small_bundle: Path, tmp_path: Path, request_: dict[str, Any]
) -> None:
    request = {**request_, "bundles": [str(small_bundle)]}
    assert "error" not in ask(bare, request, tmp_path, str(file))


def test_pip_installs_it(file: Path, bare: Path, small_bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", target, file], check=True)
    request = {**REQUESTS[0], "bundles": [str(small_bundle)]}
    assert ask(bare, request, tmp_path, str(target))["latencies_ms"]
    (record,) = target.glob("*.dist-info")
    assert "Requires-Dist: onnxruntime>=1.20" in (record / "METADATA").read_text()
