"""GGUF's LoRA, by llama.cpp's convert_lora_to_gguf.py and src/llama-adapter.cpp."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from edge_lra.adapters.formats.convert import convert
from edge_lra.adapters.formats.gguf_names import ARCHITECTURES
from edge_lra.adapters.saved import read_saved
from edge_lra.errors import EdgeError
from tests.adapters.formats.lora import (
    DOWN_PROJ,
    HEADS,
    KV_HEADS,
    SHAPES,
    SIZE,
    Factors,
    FakeBase,
    K,
    Q,
    assert_same,
    deltas,
    random_factors,
    refused,
    write_peft,
)

NAMES = {
    Q: "blk.0.attn_q.weight",
    K: "blk.1.attn_k.weight",
    DOWN_PROJ: "blk.1.ffn_down.weight",
    "lm_head": "output.weight",
}


def stored(module: str, up: Any) -> Any:
    """Return a b's rows as llama.cpp stores them: row i of a head's first half goes to 2i, of its
    second half to 2i + 1, for queries and keys of a Llama."""
    heads = HEADS if "q_proj" in module else KV_HEADS if "k_proj" in module else 0
    turned = up.copy()
    for head in range(heads):
        for i in range(SIZE // 2):
            turned[head * SIZE + 2 * i] = up[head * SIZE + i]
            turned[head * SIZE + 2 * i + 1] = up[head * SIZE + SIZE // 2 + i]
    return turned


def write(
    file: Path,
    tensors: Mapping[str, Any],
    alpha: float | None = 6.0,
    kind: str = "lora",
    arch: str = "llama",
    more: Mapping[str, Any] | None = None,
) -> Path:
    writer = gguf.GGUFWriter(file, arch)
    writer.add_type("adapter" if kind else "model")
    writer.add_string("adapter.type", kind)
    if alpha is not None:
        writer.add_float32("adapter.lora.alpha", alpha)
    for key, values in (more or {}).items():
        writer.add_array(key, values)
    for name, values in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def as_stored(factors: Mapping[str, Factors], dtype: Any = np.float32) -> dict[str, Any]:
    tensors = {}
    for module, site in factors.items():
        tensors[f"{NAMES[module]}.lora_a"] = site.down.astype(dtype)
        tensors[f"{NAMES[module]}.lora_b"] = stored(module, site.up).astype(dtype)
    return tensors


def values_in(file: Path) -> dict[str, Any]:
    return {tensor.name: tensor.data for tensor in gguf.GGUFReader(file).tensors}


def test_rows_of_queries_and_keys_come_back_in_their_order(tmp_path: Path) -> None:
    factors = random_factors()  # rank 3, alpha 6
    saved = read_saved(write(tmp_path / "a.gguf", as_stored(factors)), FakeBase())
    assert saved.format == "GGUF"
    assert_same(saved, factors)


def test_the_scale_is_alpha_by_each_tensors_own_rank(tmp_path: Path) -> None:
    factors = random_factors({Q: 3, DOWN_PROJ: 2})
    factors[DOWN_PROJ].scale = 3.0
    assert_same(read_saved(write(tmp_path / "a.gguf", as_stored(factors)), FakeBase()), factors)


def test_a_family_that_keeps_its_order_is_left_alone(tmp_path: Path) -> None:
    base = FakeBase()
    base.config["model_type"] = "qwen2"
    factors = random_factors()
    tensors = {
        f"{NAMES[module]}.lora_{part}": values
        for module, site in factors.items()
        for part, values in (("a", site.down), ("b", site.up))
    }
    assert_same(read_saved(write(tmp_path / "a.gguf", tensors, arch="qwen2"), base), factors)


def test_half_floats_are_read(tmp_path: Path) -> None:
    factors = random_factors()
    for site in factors.values():
        site.down, site.up = (v.astype(np.float16).astype(np.float32) for v in (site.down, site.up))
    file = write(tmp_path / "a.gguf", as_stored(factors, np.float16))
    assert_same(read_saved(file, FakeBase()), factors)


def test_an_embedding_is_stored_with_its_first_factor_transposed(tmp_path: Path) -> None:
    head = random_factors({"lm_head": 3})["lm_head"]  # the table's change is up @ down, too
    tensors = {
        "token_embd.weight.lora_a": head.up,  # (vocabulary, rank)
        "token_embd.weight.lora_b": head.down.T,  # (width, rank)
    }
    saved = read_saved(write(tmp_path / "a.gguf", tensors), FakeBase())
    assert np.allclose(deltas(saved)["model.embed_tokens"], head.delta, rtol=1e-6)
    convert(tmp_path / "a.gguf", "gguf", tmp_path / "b.gguf", FakeBase())
    back = values_in(tmp_path / "b.gguf")
    assert back.keys() == tensors.keys()
    assert all(np.array_equal(back[name], values) for name, values in tensors.items())


def test_a_checkpoint_without_a_head_has_the_same_names(tmp_path: Path) -> None:
    base = FakeBase(shapes={k.removeprefix("model."): v for k, v in SHAPES.items()})
    factors = random_factors()
    saved = read_saved(write(tmp_path / "a.gguf", as_stored(factors)), base)
    assert_same(saved, {name.removeprefix("model."): site for name, site in factors.items()})


def test_every_family_is_one_that_gguf_knows() -> None:
    known = set(gguf.MODEL_ARCH_NAMES.values())
    assert {entry.name for entry in ARCHITECTURES.values()} <= known


def test_what_is_no_lora_for_this_base_is_refused(tmp_path: Path) -> None:
    base, factors = FakeBase(), random_factors()
    good = as_stored(factors)
    refused(write(tmp_path / "none.gguf", good), "--model")
    refused(write(tmp_path / "alpha.gguf", good, alpha=None), "adapter.lora.alpha", base=base)
    refused(write(tmp_path / "zero.gguf", good, alpha=0.0), "adapter.lora.alpha", base=base)
    refused(write(tmp_path / "model.gguf", good, kind=""), "general.type", base=base)
    refused(write(tmp_path / "kind.gguf", good, kind="loha"), "adapter.type", base=base)
    refused(write(tmp_path / "arch.gguf", good, arch="qwen2"), "qwen2", "llama", base=base)
    tokens = {"adapter.alora.invocation_tokens": [1, 2]}
    refused(write(tmp_path / "alora.gguf", good, more=tokens), "invocation_tokens", base=base)
    norm = {"blk.0.attn_norm.weight": np.ones(10, "f4")}
    refused(write(tmp_path / "norm.gguf", good | norm), "blk.0.attn_norm.weight", base=base)
    other = {name.replace("blk.1", "blk.7"): values for name, values in good.items()}
    refused(write(tmp_path / "other.gguf", other), "blk.7", base=base)
    half = {name: values for name, values in good.items() if not name.endswith("lora_a")}
    refused(write(tmp_path / "half.gguf", half), "lora_A", base=base)
    unknown = FakeBase(config={"model_type": "rwkv"})
    refused(write(tmp_path / "rwkv.gguf", good), "'rwkv'", "qwen2", base=unknown)
    odd = FakeBase()
    odd.config["num_attention_heads"] = 5
    refused(write(tmp_path / "heads.gguf", good), Q, "5 heads", base=odd)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    base, file = FakeBase(), write(tmp_path / "a.gguf", as_stored(random_factors()))
    whole = file.read_bytes()
    for size in (len(whole) - 40, len(whole) // 2, 100, 3, 0):
        file.write_bytes(whole[:size])
        refused(file, "damaged", base=base)
    tensors = as_stored(random_factors())
    tensors[f"{NAMES[Q]}.lora_b"][0, 0] = np.inf
    refused(write(tmp_path / "nan.gguf", tensors), f"{NAMES[Q]}.lora_b", "NaN or Inf", base=base)


# ---- written -------------------------------------------------------------------------------


def test_a_file_is_written_as_llama_cpp_stores_it(tmp_path: Path) -> None:
    factors = random_factors(NAMES_RANKS)
    convert(write_peft(tmp_path / "peft", factors), "gguf", tmp_path / "a.gguf", FakeBase())
    expected, found = as_stored(factors), values_in(tmp_path / "a.gguf")
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    head = {f.name: f.contents() for f in gguf.GGUFReader(tmp_path / "a.gguf").fields.values()}
    assert head["general.type"] == "adapter" and head["adapter.type"] == "lora"
    assert head["general.architecture"] == "llama" and head["adapter.lora.alpha"] == 6.0


NAMES_RANKS = dict.fromkeys(NAMES, 3)


def test_scales_of_their_own_are_folded_into_b(tmp_path: Path) -> None:
    factors = random_factors({Q: 3, K: 2, DOWN_PROJ: 3})
    factors[K].scale = 0.7
    convert(write_peft(tmp_path / "peft", factors), "gguf", tmp_path / "a.gguf", FakeBase())
    assert_same(read_saved(tmp_path / "a.gguf", FakeBase()), factors)


def test_what_llama_cpp_cannot_apply_is_refused(tmp_path: Path) -> None:
    out, base = tmp_path / "a.gguf", FakeBase()
    tied = FakeBase(shapes={name: shape for name, shape in SHAPES.items() if name != "lm_head"})
    source = write_peft(tmp_path / "head", random_factors({"lm_head": 2}))
    with pytest.raises(EdgeError, match=r"lm_head.*a head shares"):
        convert(source, "gguf", out, tied)
    with pytest.raises(EdgeError, match="--model"):
        convert(source, "gguf", out)
    other = FakeBase(shapes=SHAPES | {"lm_head": (14, 10)})
    with pytest.raises(EdgeError, match=r"lm_head.*\(13, 10\).*\(14, 10\)"):
        convert(source, "gguf", out, other)
    lacking = FakeBase(shapes={k: v for k, v in SHAPES.items() if not k.startswith(Q)})
    with pytest.raises(EdgeError, match=rf"{Q}: found no name"):
        convert(write_peft(tmp_path / "q", random_factors()), "gguf", out, lacking)
    assert not out.exists() and base.config["model_type"] == "llama"
