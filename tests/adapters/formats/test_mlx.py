"""MLX-LM's files, by the formulas of mlx_lm/tuner/lora.py and dora.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edge_lra.adapters.formats.convert import convert
from edge_lra.adapters.saved import read_saved
from edge_lra.errors import EdgeError
from tests.adapters.formats.lora import (
    SHAPES,
    Factors,
    FakeBase,
    K,
    Q,
    assert_same,
    deltas,
    random_factors,
    refused,
    updates,
    write_peft,
)

EMBEDDING = "model.embed_tokens"


def write(folder: Path, factors: Mapping[str, Factors], kind: str = "lora", **more: Any) -> Path:
    """Write a folder as `mlx_lm.lora` does: lora_a (in, r), lora_b (r, out)."""
    folder.mkdir(exist_ok=True)
    first = next(iter(factors.values()))
    settings = {"rank": len(first.down), "scale": first.scale, "dropout": 0.0} | more
    config = {"fine_tune_type": kind, "num_layers": 2, "lora_parameters": settings, "model": "m"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {}
    for module, site in factors.items():
        tensors[f"{module}.lora_a"] = np.ascontiguousarray(site.down.T)
        tensors[f"{module}.lora_b"] = np.ascontiguousarray(site.up.T)
        if kind == "dora":
            tensors[f"{module}.m"] = np.arange(1, len(site.up) + 1, dtype=np.float32)
    save_file(tensors, folder / "adapters.safetensors")
    return folder


def table() -> Factors:
    """Return factors of an embedding as a head would have them: table += scale * up @ down."""
    return random_factors({"lm_head": 3})["lm_head"]


def test_the_change_is_scale_times_a_times_b(tmp_path: Path) -> None:
    factors = random_factors()
    saved = read_saved(write(tmp_path / "a", factors))
    assert saved.format == "MLX-LM" and saved.config["base_model_name_or_path"] == "m"
    assert_same(saved, factors)


def test_earlier_steps_beside_the_last_are_passed_over(tmp_path: Path) -> None:
    factors = random_factors()
    folder = write(tmp_path / "a", factors)
    (folder / "0000100_adapters.safetensors").write_bytes(b"cut")
    assert_same(read_saved(folder), factors)


def test_the_file_alone_is_read_with_the_config_beside_it(tmp_path: Path) -> None:
    factors = random_factors()
    assert_same(read_saved(write(tmp_path / "a", factors) / "adapters.safetensors"), factors)


def test_dora_keeps_its_magnitudes(tmp_path: Path) -> None:
    factors = random_factors()
    saved = read_saved(write(tmp_path / "a", factors, kind="dora"))
    assert saved.config["use_dora"] is True
    assert_same(saved, factors)
    for module, update in updates(saved):
        assert update.magnitude.tolist() == list(range(1, SHAPES[module][0] + 1))


def test_an_embedding_is_stored_the_other_way_round(tmp_path: Path) -> None:
    site = table()
    folder = write(tmp_path / "a", {EMBEDDING: Factors(site.up.T, site.down.T)})
    saved = read_saved(folder, FakeBase())
    assert np.allclose(deltas(saved)[EMBEDDING], site.delta, rtol=1e-6)
    refused(folder, EMBEDDING, "--model")


def test_a_head_that_shares_an_embedding_changes_with_it(tmp_path: Path) -> None:
    site = table()
    tied = {name: shape for name, shape in SHAPES.items() if name != "lm_head"}
    folder = write(tmp_path / "a", {EMBEDDING: Factors(site.up.T, site.down.T)})
    found = deltas(read_saved(folder, FakeBase(shapes=tied)))
    assert np.allclose(found[EMBEDDING], site.delta, rtol=1e-6)
    assert np.allclose(found["lm_head"], site.delta, rtol=1e-6)


def test_what_is_not_plain_is_refused_by_name(tmp_path: Path) -> None:
    factors = random_factors()
    refused(write(tmp_path / "full", factors, kind="full"), "fine_tune_type", "full")
    refused(write(tmp_path / "alpha", factors, alpha=4), "alpha", "scale")
    refused(write(tmp_path / "none", factors, scale=None), "lora_parameters scale")
    refused(write(tmp_path / "zero", factors, scale=0), "lora_parameters scale")
    refused(write(tmp_path / "rank", factors, rank=5), "rank 3", "5")
    site = table()
    rows = write(tmp_path / "rows", {EMBEDDING: Factors(site.up.T, site.down.T)}, kind="dora")
    refused(rows, "DoRA", EMBEDDING, base=FakeBase())
    experts = write(tmp_path / "experts", factors)
    file = experts / "adapters.safetensors"
    save_file({f"{Q}.lora_a": np.ones((2, 3, 4), "f4")}, file)
    refused(experts, f"{Q}.lora_a", "experts")
    save_file({**{f"{Q}.lora_{x}": np.ones((4, 3), "f4") for x in "ab"}, "w": file_free()}, file)
    refused(experts, "w:", "lora_a")


def file_free() -> Any:
    return np.ones((2, 2), np.float32)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    factors = random_factors()
    folder = write(tmp_path / "a", factors)
    file = folder / "adapters.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    refused(folder, "truncated")
    file.unlink()
    refused(folder, "adapters.safetensors")
    half = {k: v for k, v in load(whole, tmp_path).items() if not k.endswith("lora_b")}
    save_file(half, file)
    refused(folder, "lora_B")
    broken = load(whole, tmp_path)
    broken[f"{Q}.lora_a"][0, 0] = np.nan
    save_file(broken, file)
    refused(folder, f"{Q}.lora_a", "NaN")
    save_file({f"{Q}.lora_a": np.ones((10, 0), "f4"), f"{Q}.lora_b": np.ones((0, 24), "f4")}, file)
    refused(folder, Q, "size zero")
    save_file({f"{Q}.lora_a": np.ones((10, 3), "f4"), f"{Q}.lora_b": np.ones((2, 24), "f4")}, file)
    refused(folder, Q, "(24, 2)")


def load(data: bytes, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "whole.safetensors").write_bytes(data)
    return load_file(tmp_path / "whole.safetensors")


# ---- written -------------------------------------------------------------------------------


def test_sites_of_other_ranks_and_scales_come_back(tmp_path: Path) -> None:
    factors = random_factors({Q: 3, K: 2})
    factors[K].scale = 0.3
    source = write_peft(tmp_path / "peft", factors)
    convert(source, "mlx", tmp_path / "mlx")
    assert_same(read_saved(tmp_path / "mlx"), factors)
    config = json.loads((tmp_path / "mlx/adapter_config.json").read_text())
    assert config["num_layers"] == 2 and config["lora_parameters"]["keys"] == sorted(factors)
    shapes = {name: v.shape for name, v in load_file(tmp_path / "mlx/adapters.safetensors").items()}
    assert shapes[f"{K}.lora_a"] == (10, 3) and shapes[f"{K}.lora_b"] == (3, 12)


def test_dora_is_written_and_comes_back(tmp_path: Path) -> None:
    factors = random_factors()
    convert(write(tmp_path / "a", factors, kind="dora"), "peft", tmp_path / "peft")
    convert(tmp_path / "peft", "mlx", tmp_path / "mlx")
    saved = read_saved(tmp_path / "mlx")
    assert saved.config["use_dora"] and saved.format == "MLX-LM"
    assert_same(saved, factors)
    for module, update in updates(saved):
        assert update.magnitude.tolist() == list(range(1, SHAPES[module][0] + 1))


def test_an_embedding_is_written_where_no_head_shares_it(tmp_path: Path) -> None:
    site = table()
    folder = write(tmp_path / "a", {EMBEDDING: Factors(site.up.T, site.down.T)})
    convert(folder, "peft", tmp_path / "peft", FakeBase())
    convert(tmp_path / "peft", "mlx", tmp_path / "mlx", FakeBase())
    back = deltas(read_saved(tmp_path / "mlx", FakeBase()))
    assert np.allclose(back[EMBEDDING], site.delta, rtol=1e-6)
    tied = {name: shape for name, shape in SHAPES.items() if name != "lm_head"}
    with pytest.raises(EdgeError, match="lm_head shares"):
        convert(tmp_path / "peft", "mlx", tmp_path / "other", FakeBase(shapes=tied))
    with pytest.raises(EdgeError, match="--model"):
        convert(tmp_path / "peft", "mlx", tmp_path / "other")
    assert not (tmp_path / "other").exists()
