from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_lra.bundle import MANIFEST, check_files, describe_files, load_manifest, seal, staged
from edge_lra.errors import EdgeError


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write(out: Path, text: str) -> None:
    with staged(out) as folder:
        (folder / "model.onnx").write_text(text)
        manifest = {"format_version": 1, "base_fingerprint": "", "files": describe_files(folder)}
        (folder / MANIFEST).write_bytes(seal(manifest))


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
    (tmp_path / "x.edge").rename(tmp_path / f".x.edge.old-{dead_pid()}")
    (tmp_path / f".x.edge.tmp-{dead_pid()}").mkdir()
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "x.edge"):
        raise KeyboardInterrupt
    assert (tmp_path / "x.edge/model.onnx").read_text() == "one"


def test_another_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x.edge").mkdir()
    with pytest.raises(EdgeError, match="not a bundle"):
        write(tmp_path / "x.edge", "one")


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    write(tmp_path / "x.edge", "one")
    (tmp_path / "x.edge/model.onnx").write_text("onf")
    with pytest.raises(EdgeError, match=r"model\.onnx: is damaged"):
        check_files(tmp_path / "x.edge", load_manifest(tmp_path / "x.edge"))


def test_another_folder_with_a_manifest_of_its_own_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "photos"
    out.mkdir()
    (out / MANIFEST).write_text('{"name": "a web app"}')
    with pytest.raises(EdgeError, match="not a bundle"):
        write(out, "one")
    assert [p.name for p in out.iterdir()] == [MANIFEST]


def test_force_never_replaces_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EdgeError, match="current or home"), staged(Path(), force=True):
        pass


def test_folders_of_running_exports_are_kept(tmp_path: Path) -> None:
    live = f".x.edge.tmp-{os.getppid()}"
    for name in (f".x.edge.tmp-{dead_pid()}", live):
        (tmp_path / name).mkdir()
    write(tmp_path / "x.edge", "one")
    assert sorted(p.name for p in tmp_path.iterdir()) == [live, "x.edge"]


def test_a_forced_export_over_a_file_leaves_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "x.edge").write_text("no folder")
    with staged(tmp_path / "x.edge", force=True) as folder:
        (folder / "model.onnx").write_text("one")
    assert [p.name for p in tmp_path.iterdir()] == ["x.edge"]
    assert (tmp_path / "x.edge/model.onnx").read_text() == "one"


def test_a_forced_export_over_a_link_replaces_the_link_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    (tmp_path / "x.edge").symlink_to("mine")
    with staged(tmp_path / "x.edge", force=True):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "x.edge"]
    assert (tmp_path / "mine/thesis.txt").is_file()


def test_a_link_that_a_killed_run_put_aside_is_cleared(tmp_path: Path) -> None:
    write(tmp_path / "x.edge", "one")
    (tmp_path / f".x.edge.old-{dead_pid()}").symlink_to("nowhere")
    load_manifest(tmp_path / "x.edge")
    assert [p.name for p in tmp_path.iterdir()] == ["x.edge"]


def test_a_failure_takes_the_folders_it_made_with_it(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "there/new/deep/x.edge"):
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.rglob("*")] == ["there"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="No space left"), staged(tmp_path / "x.edge"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_input_inside_the_block_is_not_called_a_disk_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), staged(tmp_path / "x.edge"):
        (tmp_path / "absent").read_text()
