from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_lra.bundle import MANIFEST, check_files, describe_files, load_manifest, staged
from edge_lra.errors import EdgeError


def write(out: Path, text: str) -> None:
    with staged(out) as folder:
        (folder / "model.onnx").write_text(text)
        manifest = {"format_version": 1, "files": describe_files(folder)}
        (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_bundle_replaces_a_bundle_and_leaves_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "x.edge", "one")
    write(tmp_path / "x.edge", "two")
    assert (tmp_path / "x.edge/model.onnx").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["x.edge"]


def test_an_interrupted_export_keeps_the_old_bundle(tmp_path: Path) -> None:
    write(tmp_path / "x.edge", "one")
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "x.edge"):
        raise KeyboardInterrupt
    assert (tmp_path / "x.edge/model.onnx").read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["x.edge"]


def test_a_swap_cut_in_the_middle_is_finished_by_the_next_run(tmp_path: Path) -> None:
    write(tmp_path / "x.edge", "one")
    (tmp_path / "x.edge").rename(tmp_path / ".x.edge.old")
    (tmp_path / ".x.edge.tmp").mkdir()
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "x.edge"):
        raise KeyboardInterrupt
    assert (tmp_path / "x.edge/model.onnx").read_text() == "one"


def test_another_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x.edge").mkdir()
    with pytest.raises(EdgeError, match="no bundle"):
        write(tmp_path / "x.edge", "one")


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    write(tmp_path / "x.edge", "one")
    (tmp_path / "x.edge/model.onnx").write_text("onf")
    with pytest.raises(EdgeError, match=r"model\.onnx: found other bytes"):
        check_files(tmp_path / "x.edge", load_manifest(tmp_path / "x.edge"))
