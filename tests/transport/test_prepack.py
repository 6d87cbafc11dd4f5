"""Weights packed on another machine: an emulated core, and one reached by ssh."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edge_lra
from edge_lra.bundle import describe_files
from edge_lra.device import load_device
from edge_lra.errors import EdgeError
from edge_lra.prepack import prepack
from edge_lra.runner import Runner
from tests.transport.conftest import Server

ARM64 = Path(edge_lra.__file__).parent.parent / ".cache" / "arm64"
INPUTS = {"input_ids": [[2, 9, 3]], "attention_mask": [[1, 1, 1]]}


def test_an_emulated_core_packs_in_its_own_order(
    small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_LRA_ARM64", str(ARM64))
    there = prepack(small_bundle, tmp_path / "there.edge", load_device("cortex-a76"))
    assert (there.entry["device"], there.entry["arch"]) == ("cortex-a76", "aarch64")
    here = prepack(small_bundle, tmp_path / "here.edge")
    data = [describe_files(one.folder)["model.onnx.data"] for one in (there, here)]
    assert data[0] != data[1]
    expected, found = (Runner.load(one).run(INPUTS) for one in (small_bundle, there.folder))
    assert np.array_equal(found["logits"], expected["logits"])


def test_a_target_packs_and_keeps_nothing(
    small_bundle: Path, tmp_path: Path, server: Server
) -> None:
    there = prepack(small_bundle, tmp_path / "there.edge", target=server.target)
    here = prepack(small_bundle, tmp_path / "here.edge")
    assert (there.entry["device"], here.entry["device"]) == (server.target, "host")
    assert describe_files(there.folder) == describe_files(here.folder)
    assert server.left() == []


def test_a_target_of_another_architecture_is_refused(
    small_bundle: Path, tmp_path: Path, server: Server
) -> None:
    with pytest.raises(EdgeError, match="aarch64"):
        prepack(small_bundle, tmp_path / "x.edge", load_device("rpi5"), server.target)
    assert not (tmp_path / "x.edge").exists()
