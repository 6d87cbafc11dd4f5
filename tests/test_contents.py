"""What `describe` finds in bundles, adapters and checkpoints, and how it is grouped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch

from edge_lra.adapters.algebra.measures import sparkline
from edge_lra.contents import describe, group_sites, group_tensors
from edge_lra.pipeline import ExportRequest, export
from tests.adapters.matrix import lora, make

QUERY = "base_model.model.bert.encoder.layer.{}.attention.self.query"


def change_config(folder: Path, **changes: object) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_every_site_is_listed_with_its_factors_shapes(tiny: Path) -> None:
    found = describe("adapter")
    assert found["sites"][0] == {
        "module": QUERY.format(0),
        "rank": 4,
        "down_shape": [4, 32],
        "up_shape": [32, 4],
    }
    tensors = load_file(tiny / "adapter/adapter_model.safetensors")
    assert len(found["sites"]) == sum("lora_A" in name for name in tensors)
    assert found["whole_tensors"].keys() == {n for n in tensors if "lora_" not in n}
    assert found["parameters"] == sum(value.size for value in tensors.values())


def test_sites_that_differ_in_their_layer_are_one_line(tiny: Path) -> None:
    sites = describe("adapter")["sites"]
    sites[-1] = sites[-1] | {"rank": 8}
    assert group_sites(sites) == [
        "2 x bert.encoder.layer.*.attention.self.query, rank 4, 32→32",
        "1 x bert.encoder.layer.*.attention.self.value, rank 4, 32→32",
        "1 x bert.encoder.layer.*.attention.self.value, rank 8, 32→32",
    ]


def test_every_number_of_a_name_is_grouped_and_no_part_of_a_word() -> None:
    names = ["m.10.experts.2.w1", "m.2.experts.11.w1", "0.w1", "1.w1", "w1.3"]
    tensors = [{"name": name, "dtype": "F32", "shape": [2]} for name in names]
    assert group_tensors(tensors) == [
        "2 x m.*.experts.*.w1 F32[2]",
        "2 x *.w1 F32[2]",
        "1 x w1.3 F32[2]",
    ]


def test_a_site_without_its_other_factor_says_so(tiny: Path) -> None:
    file = tiny / "adapter/adapter_model.safetensors"
    tensors = load_file(file)
    del tensors[f"{QUERY.format(1)}.lora_B.weight"]
    save_file(tensors, file)
    lines = group_sites(describe("adapter")["sites"])
    assert (
        "1 x bert.encoder.layer.*.attention.self.query, rank 4, without its other factor" in lines
    )


def test_options_that_change_the_result_are_shown_and_the_unsupported_named(tiny: Path) -> None:
    change_config(tiny / "adapter", use_rslora=True, rank_pattern={"query": 4})
    found = describe("adapter")
    assert found["options"]["use_rslora"] and found["options"]["rank_pattern"] == {"query": 4}
    assert "init_lora_weights" not in found["options"] and found["refused"] is None
    change_config(tiny / "adapter", use_qalora=True)
    assert "use_qalora: found True, expected False" in describe("adapter")["refused"]


def test_a_checkpoint_lists_its_tensors_and_sizes(tiny: Path) -> None:
    found = describe("model")
    tensors = load_file(tiny / "model/model.safetensors")
    assert {t["name"]: tuple(t["shape"]) for t in found["tensors"]} == {
        name: value.shape for name, value in tensors.items()
    }
    assert found["sizes"]["layers"] == 2 and found["sizes"]["positions"] == 40
    assert found["file_bytes"] == {
        "model.safetensors": (tiny / "model/model.safetensors").stat().st_size
    }


def test_a_family_without_a_recipe_is_still_described(tiny: Path) -> None:
    file = tiny / "model/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "mamba"}))
    found = describe("model")
    assert found["sizes"] == {} and len(found["tensors"]) > 10
    assert "found model_type 'mamba', expected one of" in found["refused"]


def test_a_bundle_counts_every_file(tiny: Path) -> None:
    request = ExportRequest(tiny / "b.edge", "model", [("mood", "adapter")], mode="factored")
    found = describe(export(request))
    files = [path for path in (tiny / "b.edge").rglob("*") if path.is_file()]
    sizes = {path.relative_to(tiny / "b.edge").as_posix(): path.stat().st_size for path in files}
    assert found["file_bytes"] == sizes
    assert found["total_bytes"] == sum(sizes.values())
    assert found["adapters"] == {"mood": {"rank": 4, "labels": ["LABEL_0", "LABEL_1"]}}


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that moves a folder into the hub's cache as `org/thing`."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repo, commit = tmp_path / "hub/models--org--thing", "0" * 40
    (repo / "refs").mkdir(parents=True)
    (repo / "refs/main").write_text(commit)
    (repo / "snapshots").mkdir()
    return lambda folder: Path(folder).rename(repo / "snapshots" / commit)


@pytest.mark.parametrize(("folder", "kind"), [("model", "checkpoint"), ("adapter", "adapter")])
def test_a_hub_id_and_a_package_give_what_the_folder_gives(
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    publish: Callable[[str], Path],
    folder: str,
    kind: str,
) -> None:
    expected = describe(folder)
    cached = publish(folder)
    assert expected["kind"] == kind and describe("org/thing") == expected
    (tiny / "packed_thing").mkdir()
    (tiny / "packed_thing/__init__.py").touch()
    cached.rename(tiny / "packed_thing" / folder)
    monkeypatch.syspath_prepend(str(tiny))
    assert describe(f"pypi:packed_thing/{folder}") == expected


def test_a_pickled_adapter_of_the_hub_is_downloaded(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tiny / "adapter/adapter_model.safetensors"
    torch.save(load_torch(file), file.with_suffix(".bin"))
    file.unlink()
    cache = tmp_path / "cached"
    cache.mkdir()

    def download(_: str, local_files_only: bool = False, allow_patterns: Sequence[str] = ()) -> str:
        if local_files_only:
            raise FileNotFoundError
        for path in {path for pattern in allow_patterns for path in Path("adapter").glob(pattern)}:
            shutil.copy(path, cache)
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert len(describe("org/thing")["sites"]) == 4


def test_a_loras_sites_are_measured_against_their_base(tiny: Path) -> None:
    tensors = load_file(tiny / "adapter/adapter_model.safetensors")
    base = load_file(tiny / "model/model.safetensors")
    found = {site["module"]: site for site in describe("adapter", "model")["measures"]}
    name = QUERY.format(0).removeprefix("base_model.model.")
    site = found[name]
    down, up = (tensors[f"{QUERY.format(0)}.lora_{letter}.weight"] for letter in "AB")
    values = np.linalg.svd(4 * up @ down)[1][:4]
    assert site["norm"] == pytest.approx(np.linalg.norm(values), rel=1e-4)
    weight = base[f"{name.removeprefix('bert.')}.weight"]
    assert site["relative_norm"] == pytest.approx(site["norm"] / np.linalg.norm(weight), rel=1e-4)
    np.testing.assert_allclose(site["spectrum"], values / values[0], atol=1e-4)
    assert 1 < site["effective_rank"] <= 4 and site["scale"] == 4
    assert describe("adapter")["measures"][0]["relative_norm"] is None


def test_a_sparkline_falls_with_the_singular_values() -> None:
    assert sparkline([1.0, 0.5, 0.0]) == "█▅▁"
    assert len(sparkline([1 / (place + 1) for place in range(64)])) == 16


def test_a_head_that_shares_an_embedding_is_measured_against_it(tmp_path: Path) -> None:
    _, place = make(lora("qwen2", ["lm_head"]), tmp_path)
    (site,) = describe(str(place), str(tmp_path / "base"))["measures"]
    table = load_file(tmp_path / "base/model.safetensors")["model.embed_tokens.weight"]
    assert site["module"] == "lm_head"
    assert site["relative_norm"] == pytest.approx(site["norm"] / np.linalg.norm(table), rel=1e-6)
