"""AdapterHub's folders, by adapters/methods/{lora,modeling,bottleneck}.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from edge_lra.adapters.kinds.layers import LAYERS
from edge_lra.adapters.kinds.method import Site
from edge_lra.adapters.names import sort_tensors
from edge_lra.adapters.saved import Saved, read_saved
from tests.adapters.formats.lora import Factors, assert_same, deltas, refused

QUERY = "bert.encoder.layer.0.attention.self.query"
PLACES = ("bert.encoder.layer.0.attention.output", "bert.encoder.layer.0.output")
HOULSBY = {  # DoubleSeqBnConfig().to_dict(), shortened
    "mh_adapter": True,
    "output_adapter": True,
    "reduction_factor": 4,
    "non_linearity": "swish",
    "original_ln_before": False,
    "original_ln_after": True,
    "residual_before_ln": True,
    "adapter_residual_before_ln": False,
    "ln_before": False,
    "ln_after": False,
    "is_parallel": False,
    "scaling": 1.0,
    "use_gating": False,
    "inv_adapter": None,
    "cross_adapter": False,
    "phm_layer": False,
    "phm_dim": 4,
    "leave_out": [],
    "dropout": 0.0,
    "init_weights": "bert",
}
LORA = {  # LoRAConfig(r=2, alpha=6).to_dict(), shortened
    "architecture": "lora",
    "r": 2,
    "alpha": 6,
    "attn_matrices": ["q", "v"],
    "composition_mode": "add",
    "use_gating": False,
    "use_dora": False,
    "vera_d": None,
    "vera_b": None,
    "dropout": 0.1,
    "init_weights": "lora",
}


def write(
    folder: Path,
    inner: Any,
    tensors: Mapping[str, Any],
    name: str = "adapter.safetensors",
    **more: Any,
) -> Path:
    folder.mkdir(exist_ok=True)
    config = {"config": inner, "model_type": "bert", "model_name": "b", "name": "mine"}
    config |= {"version": "adapters.1.3.0"} | more
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    if name.endswith(".bin"):
        torch.save({k: torch.tensor(v) for k, v in tensors.items()}, folder / name)
    else:
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / name)
    return folder


def lora(modules: tuple[str, ...] = (QUERY,), rank: int = 2) -> tuple[dict[str, Any], Any]:
    rng = np.random.default_rng(0)
    tensors, factors = {}, {}
    for module in modules:
        down = rng.standard_normal((rank, 5)).astype("f4")
        up = rng.standard_normal((7, rank)).astype("f4")
        tensors |= {f"{module}.loras.mine.lora_A": down, f"{module}.loras.mine.lora_B": up}
        factors[module] = Factors(down, up, 3.0)
    return tensors, factors


def layers(ranks: tuple[int, ...] = (3, 3), places: tuple[str, ...] = PLACES) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    found = {}
    for place, rank in zip(places, ranks, strict=True):
        start = f"{place}.adapters.mine"
        found[f"{start}.adapter_down.0.weight"] = rng.standard_normal((rank, 6)).astype("f4")
        found[f"{start}.adapter_down.0.bias"] = rng.standard_normal(rank).astype("f4")
        found[f"{start}.adapter_up.weight"] = rng.standard_normal((6, rank)).astype("f4")
        found[f"{start}.adapter_up.bias"] = rng.standard_normal(6).astype("f4")
    return found


def applied(saved: Saved, x: Any) -> dict[str, Any]:
    """Return what each site makes of its module's output."""
    LAYERS.rules.check(saved.config, "test")
    options = LAYERS.parse(saved.config, "test")
    found = {}
    for module, parts in sort_tensors(saved.file, saved.tensors, LAYERS).sites.items():
        update: Any = LAYERS.read(Site("t", module, parts, (6, 9), True, False), options, {})
        found[module] = update["weight"].layers.apply(x, x)
    return found


# ---- LoRA ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["adapter.safetensors", "model_adapter.safetensors", "pytorch_adapter.bin"]
)
def test_lora_is_read_from_every_file(tmp_path: Path, name: str) -> None:
    tensors, factors = lora()
    saved = read_saved(write(tmp_path / "a", LORA, tensors, name))
    assert saved.format == "AdapterHub" and saved.config["base_model_name_or_path"] == "b"
    assert_same(saved, factors)


def test_releases_that_left_the_scale_out_are_read_so(tmp_path: Path) -> None:
    tensors, factors = lora()
    folder = write(tmp_path / "a", LORA, tensors, version="adapters.1.0.1")
    found = deltas(read_saved(folder))[QUERY]
    assert np.allclose(found, factors[QUERY].delta / 3, rtol=1e-6)


def test_a_fused_layers_factors_stay_in_their_own_rows(tmp_path: Path) -> None:
    module, rng = "transformer.h.0.attn.c_attn", np.random.default_rng(0)
    down = rng.standard_normal((4, 5)).astype("f4")  # rank 2 for queries, 2 for values
    up = rng.standard_normal((6, 2)).astype("f4")  # 3 outputs of each
    tensors = {f"{module}.loras.mine.lora_A": down, f"{module}.loras.mine.lora_B": up}
    saved = read_saved(write(tmp_path / "a", LORA, tensors, model_type="gpt2"))
    expected = np.zeros((9, 5))
    expected[:3] = 3 * up[:3] @ down[:2]
    expected[6:] = 3 * up[3:] @ down[2:]
    assert np.allclose(deltas(saved)[module], expected, rtol=1e-5)
    assert saved.config["fan_in_fan_out"] is True
    other = LORA | {"attn_matrices": ["q"]}
    refused(write(tmp_path / "b", other, tensors, model_type="gpt2"), module, "attn_matrices")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("composition_mode", "scale"),
        ("use_gating", True),
        ("use_dora", True),
        ("vera_d", 0.1),
        ("architecture", "prefix_tuning"),
        ("architecture", "union"),
        ("r", 0),
        ("alpha", 0),
        ("alpha", None),
        ("new_option", 3),
    ],
)
def test_a_lora_setting_that_cannot_be_followed_is_refused(
    tmp_path: Path, key: str, value: Any
) -> None:
    refused(write(tmp_path / "a", LORA | {key: value}, lora()[0]), key, repr(value))


def test_a_lora_file_of_something_else_is_refused(tmp_path: Path) -> None:
    tensors = lora()[0]
    gate = {f"{QUERY}.loras.mine.gate.weight": np.ones((1, 5), "f4")}
    refused(write(tmp_path / "a", LORA, tensors | gate), "gate.weight")
    other = {key.replace("mine", "other"): value for key, value in tensors.items()}
    refused(write(tmp_path / "b", LORA, {**tensors, **other}), "twice", QUERY)
    far = {key.replace("query", "value"): value for key, value in other.items()}
    refused(write(tmp_path / "c", LORA, tensors | far), "mine, other")
    refused(write(tmp_path / "d", "pfeiffer", tensors), "'pfeiffer'")
    refused(write(tmp_path / "e", LORA, {"x": np.ones(2, "f4")}), "adapter.safetensors")
    folder = write(tmp_path / "f", LORA, tensors)
    file = folder / "adapter.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    refused(folder, "truncated")


# ---- two layers ----------------------------------------------------------------------------


def test_houlsbys_layers_are_those_of_this_project(tmp_path: Path) -> None:
    tensors = layers()
    saved = read_saved(write(tmp_path / "a", HOULSBY | {"scaling": 0.5}, tensors))
    assert saved.config["adapter_type"] == "low-rank-layers"
    x = np.random.default_rng(1).standard_normal((4, 6))
    found = applied(saved, x)
    assert sorted(found) == [f"{place}.dense" for place in PLACES]
    for place in PLACES:
        part = {k.split(".mine.")[1]: v for k, v in tensors.items() if k.startswith(place + ".")}
        inner = x @ part["adapter_down.0.weight"].T + part["adapter_down.0.bias"]
        inner = inner / (1 + np.exp(-inner))
        outer = inner @ part["adapter_up.weight"].T + part["adapter_up.bias"]
        assert np.allclose(found[f"{place}.dense"], x + 0.5 * outer, rtol=1e-6)


def test_sites_of_other_ranks_are_filled_with_zeros(tmp_path: Path) -> None:
    both = applied(read_saved(write(tmp_path / "a", HOULSBY, layers((2, 3)))), np.ones((1, 6)))
    alone = layers((2, 3))
    alone = {k: v for k, v in alone.items() if k.startswith(PLACES[0] + ".")}
    one = applied(read_saved(write(tmp_path / "b", HOULSBY, alone)), np.ones((1, 6)))
    name = f"{PLACES[0]}.dense"
    assert np.allclose(both[name], one[name], rtol=1e-12)


@pytest.mark.parametrize(
    ("family", "place", "module"),
    [
        ("roberta", "roberta.encoder.layer.1.output", "roberta.encoder.layer.1.output.dense"),
        ("distilbert", "layer.1.attention_adapters", "layer.1.attention.out_lin"),
        ("distilbert", "layer.1.output_adapters", "layer.1.ffn.lin2"),
        ("gpt2", "h.1.attention_adapters", "h.1.attn.c_proj"),
        ("llama", "layers.1.output_adapters", "layers.1.mlp.down_proj"),
    ],
)
def test_each_family_has_its_places(tmp_path: Path, family: str, place: str, module: str) -> None:
    tensors = layers((3,), (place,))
    saved = read_saved(write(tmp_path / "a", HOULSBY, tensors, model_type=family))
    assert saved.config["sites"] == [module]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("original_ln_before", True),  # Pfeiffer's
        ("original_ln_after", False),
        ("ln_before", True),
        ("ln_after", True),
        ("is_parallel", True),
        ("use_gating", True),
        ("phm_layer", True),
        ("inv_adapter", "nice"),
        ("cross_adapter", True),
        ("residual_before_ln", "post_add"),
        ("scaling", "learned"),
        ("scaling", "channel"),
        ("scaling", 0.0),
        ("non_linearity", "leakyrelu"),
        ("new_option", 3),
    ],
)
def test_a_placement_that_cannot_be_said_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    refused(write(tmp_path / "a", HOULSBY | {key: value}, layers()), key, repr(value))


def test_gelu_of_configs_without_a_version_is_another(tmp_path: Path) -> None:
    inner = HOULSBY | {"non_linearity": "gelu"}
    assert read_saved(write(tmp_path / "a", inner, layers())).config["activation"] == "gelu"
    refused(write(tmp_path / "b", inner, layers(), version=None), "gelu_new")
    inner = HOULSBY | {"non_linearity": "gelu_orig"}
    saved = read_saved(write(tmp_path / "c", inner, layers(), version=None))
    assert saved.config["activation"] == "gelu"


def test_layers_that_are_damaged_are_refused(tmp_path: Path) -> None:
    tensors = layers()
    key = f"{PLACES[0]}.adapters.mine.adapter_up.weight"
    lacking = {name: value for name, value in tensors.items() if name != key}
    refused(write(tmp_path / "a", HOULSBY, lacking), "adapter_up.weight")
    refused(write(tmp_path / "b", HOULSBY, tensors | {key: np.ones((6, 2), "f4")}), "(6, 2)")
    nan = {key: np.full((6, 3), np.nan, "f4")}
    refused(write(tmp_path / "c", HOULSBY, tensors | nan), key, "NaN")
    empty = {name: value[:0] if "down" in name else value for name, value in tensors.items()}
    refused(write(tmp_path / "d", HOULSBY, empty), "at least 1")
    far = {f"bert.pooler.adapters.mine.{key.split('.mine.')[1]}": tensors[key]}
    refused(write(tmp_path / "e", HOULSBY, tensors | far), "bert.pooler")
    refused(write(tmp_path / "f", HOULSBY, tensors, model_type="t5"), "'t5'")
    legacy = {k.replace(".adapters.", ".layer_text_task_adapters."): v for k, v in tensors.items()}
    assert read_saved(write(tmp_path / "g", HOULSBY, legacy)).config["rank"] == 3


# ---- heads ---------------------------------------------------------------------------------


def test_a_head_of_transformers_comes_along(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", LORA, lora()[0])
    head = {"classifier.weight": np.ones((2, 7), "f4"), "classifier.bias": np.ones(2, "f4")}
    save_file(head, folder / "model_head.safetensors")
    (folder / "head_config.json").write_text('{"model_class": "BertForSequenceClassification"}')
    saved = read_saved(folder)
    assert np.array_equal(saved.tensors["classifier.weight"], head["classifier.weight"])
    assert saved.config["modules_to_save"] == ["classifier"]
    assert saved.config["task_type"] == "SEQ_CLS"


def test_a_head_of_adapterhubs_own_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", HOULSBY, layers())
    save_file({"heads.mine.1.weight": np.ones((2, 7), "f4")}, folder / "model_head.safetensors")
    refused(folder, "heads.mine.1.weight", "head's file")
