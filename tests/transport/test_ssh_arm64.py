"""An arm64 Python behind ssh: an emulated one, whose times nobody may see."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import edge_lra
from edge_lra.cli import main
from edge_lra.pipeline import ExportRequest, export
from edge_lra.profile.study import Study, run_study
from edge_lra.transport.sysroot import find_sysroot
from tests.transport.conftest import Server

FOLDER = Path(edge_lra.__file__).parent.parent / ".cache" / "arm64"


@pytest.fixture(scope="module")
def bundle(tiny_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("arm64") / "b.edge"
    return export(ExportRequest(out, str(tiny_made / "model"), [("mood", tiny_made / "adapter")]))


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Return a program that starts the emulated Python, as binfmt_misc would."""
    sysroot = find_sysroot(FOLDER)
    place = shlex.quote(str(sysroot.folder / "site"))
    command = shlex.join(sysroot.command("cortex-a76"))
    script = tmp_path / "python3-arm64"
    script.write_text(
        "#!/bin/sh\n"
        f'PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}"{place} PYTHONNOUSERSITE=1 '
        f'exec {command} "$@"\n'
    )
    script.chmod(0o755)
    return script


def test_a_profile_over_ssh_executes_on_arm64_and_reports_no_time(
    server: Server, bundle: Path, python: Path
) -> None:
    target = f"{server.target}/?python={python}"
    profile = run_study(Study(bundle, target=target, devices=("rpi5",), shapes=((1, 8),)))
    assert profile.versions.keys() == {"edge-lra", "onnxruntime", "numpy"}
    (entry,) = profile.entries
    assert entry.measured is None and entry.estimated is None
    found = entry.emulated
    assert found is not None and found.passed
    assert found.host["arch"] == "aarch64" and "emulated" in found.cpu
    assert found.matmuls == found.matmuls_equal > 0
    assert found.cases > 0 and found.max_abs_error_float <= found.allowed_error_float
    assert not list(server.home.rglob("*.onnx"))


def test_an_emulated_arm64_is_no_x86_laptop(server: Server, bundle: Path, python: Path) -> None:
    arguments: list[Any] = ["profile", bundle, "--shape", "1x8", "--device", "x86-vnni"]
    target = ["--target", f"{server.target}/?python={python}"]
    result = CliRunner().invoke(main, [*map(str, arguments), *target])
    assert result.exit_code == 1
    assert "found aarch64" in result.stderr and "expected x86_64 for VNNI laptop" in result.stderr
