"""kohya's names (sd-scripts, networks/lora.py), resolved by the base's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from edge_lra.adapters.saved import read_saved
from tests.adapters.formats.lora import Factors, FakeBase, assert_same, deltas, refused, updates

MLP, CONV = "down_blocks.0.ff_net.proj", "down_blocks.0.conv_in"
SHAPES = {MLP: (7, 5), CONV: (6, 4, 3, 3)}


def factors(rank: int = 2, scale: float = 0.5) -> dict[str, Factors]:
    rng = np.random.default_rng(0)
    return {
        name: Factors(
            rng.standard_normal((rank, int(np.prod(shape[1:])))).astype("f4"),
            rng.standard_normal((shape[0], rank)).astype("f4"),
            scale,
        )
        for name, shape in SHAPES.items()
    }


def stored(sites: Mapping[str, Factors], prefix: str = "lora_unet_") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module, site in sites.items():
        name, inner = prefix + module.replace(".", "_"), SHAPES[module][1:]
        ones = (1,) * (len(inner) - 1)
        found[f"{name}.lora_down.weight"] = site.down.reshape(-1, *inner)
        found[f"{name}.lora_up.weight"] = site.up.reshape(*site.up.shape, *ones)
        found[f"{name}.alpha"] = np.float32(site.scale * len(site.down))
    return found


def write(file: Path, tensors: Mapping[str, Any]) -> Path:
    save_file({name: np.array(values) for name, values in tensors.items()}, file)
    return file


def base(shapes: Mapping[str, tuple[int, ...]] | None = None) -> FakeBase:
    return FakeBase(config={}, shapes=shapes or SHAPES)


@pytest.mark.parametrize("prefix", ["lora_unet_", "lora_te_", "lora_te2_", "lycoris_"])
def test_underscores_become_the_bases_dots(tmp_path: Path, prefix: str) -> None:
    saved = read_saved(write(tmp_path / "a.safetensors", stored(factors(), prefix)), base())
    assert saved.format == "kohya"
    assert_same(saved, factors())
    assert saved.tensors[f"{CONV}.lora_A.weight"].shape == (2, 4, 3, 3)


def test_a_first_part_that_only_the_base_has_is_found(tmp_path: Path) -> None:
    file = write(tmp_path / "a.safetensors", stored(factors()))
    outer = {f"text_model.{name}": shape for name, shape in SHAPES.items()}
    expected = {f"text_model.{name}": site for name, site in factors().items()}
    assert_same(read_saved(file, base(outer)), expected)
    assert_same(read_saved(file, base(outer | SHAPES)), factors())


def test_a_folder_and_a_pickle_are_read(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", stored(factors()))
    assert_same(read_saved(tmp_path, base()), factors())
    torch.save({k: torch.tensor(v) for k, v in stored(factors()).items()}, tmp_path / "lora.pt")
    assert_same(read_saved(tmp_path / "lora.pt", base()), factors())


def test_alpha_may_be_whole_or_missing(tmp_path: Path) -> None:
    tensors = stored(factors(scale=2.0))
    name = "lora_unet_" + MLP.replace(".", "_")
    tensors[f"{name}.alpha"] = np.int64(4)
    assert_same(read_saved(write(tmp_path / "a.safetensors", tensors), base()), factors(scale=2.0))
    del tensors[f"{name}.alpha"]  # then it is the rank, by sd-scripts
    found = deltas(read_saved(write(tmp_path / "b.safetensors", tensors), base()))
    assert np.allclose(found[MLP], factors(scale=1.0)[MLP].delta, rtol=1e-6)
    assert np.allclose(found[CONV], factors(scale=2.0)[CONV].delta, rtol=1e-6)


def test_doras_magnitudes_are_one_for_each_output(tmp_path: Path) -> None:
    tensors = stored(factors())
    for module, shape in SHAPES.items():
        name = "lora_unet_" + module.replace(".", "_")
        rows = np.arange(1, shape[0] + 1, dtype="f4")
        tensors[f"{name}.dora_scale"] = rows.reshape(-1, *(1,) * (len(shape) - 1))
    saved = read_saved(write(tmp_path / "a.safetensors", tensors), base())
    for module, update in updates(saved):
        assert update.magnitude.tolist() == list(range(1, SHAPES[module][0] + 1))
    tensors[f"{name}.dora_scale"] = np.ones((1, 4, 3, 3), "f4")
    refused(write(tmp_path / "b.safetensors", tensors), "dora_scale", base=base())


def test_what_cannot_be_told_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.safetensors", stored(factors()))
    name = "lora_unet_" + MLP.replace(".", "_")
    refused(file, "--model")
    both = SHAPES | {"down.blocks.0.ff_net.proj": (7, 5)}
    refused(file, MLP, "down.blocks.0.ff_net.proj", base=base(both))
    refused(file, CONV.replace(".", "_"), "no module", base=base({MLP: (7, 5)}))
    good = stored(factors())
    mid = {f"{name}.lora_mid.weight": np.ones((2, 2), "f4")}
    refused(write(tmp_path / "mid.safetensors", good | mid), "lora_mid", base=base())
    zero = {f"{name}.alpha": np.float32(0)}
    refused(write(tmp_path / "zero.safetensors", good | zero), ".alpha", "0", base=base())
    wide = {f"{name}.alpha": np.ones(2, "f4")}
    refused(write(tmp_path / "wide.safetensors", good | wide), ".alpha", "(2,)", base=base())
    twice = good | stored(factors(), "lora_te_")
    refused(write(tmp_path / "twice.safetensors", twice), "twice", base=base())
    nan = {f"{name}.lora_up.weight": np.full((7, 2), np.nan, "f4")}
    refused(write(tmp_path / "nan.safetensors", good | nan), "lora_up", "NaN", base=base())
    half = {key: values for key, values in good.items() if "lora_up" not in key}
    refused(write(tmp_path / "half.safetensors", half), "lora_B", base=base())
    file.write_bytes(file.read_bytes()[:-8])
    refused(file, "truncated", base=base())
