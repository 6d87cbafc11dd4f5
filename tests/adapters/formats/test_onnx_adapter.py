"""onnxruntime's .onnx_adapter, with Olive's names and layouts (olive/cli/convert_adapters.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edge_lra.adapters.formats.convert import convert
from edge_lra.adapters.saved import read_saved
from edge_lra.errors import EdgeError
from tests.adapters.formats.lora import (
    DOWN_PROJ,
    Factors,
    K,
    Q,
    assert_same,
    random_factors,
    refused,
    write_peft,
)


def write(file: Path, tensors: Mapping[str, Any]) -> Path:
    adapter = onnxruntime.AdapterFormat()
    make = onnxruntime.OrtValue.ortvalue_from_numpy
    adapter.set_parameters({name: make(np.ascontiguousarray(v)) for name, v in tensors.items()})
    adapter.export_adapter(str(file))
    return file


def stored(factors: Mapping[str, Factors], prefix: str = "", dtype: Any = "f4") -> dict[str, Any]:
    found = {}
    for module, site in factors.items():
        found[f"{prefix}{module}.lora_A.weight"] = site.down.T.astype(dtype)
        found[f"{prefix}{module}.lora_B.weight"] = (site.up.T * site.scale).astype(dtype)
    return found


def values_in(file: Path) -> dict[str, Any]:
    adapter = onnxruntime.AdapterFormat.read_adapter(str(file))
    return {name: np.array(value.numpy()) for name, value in adapter.get_parameters().items()}


@pytest.mark.parametrize("prefix", ["", "base_model.model."])
def test_olives_factors_come_back(tmp_path: Path, prefix: str) -> None:
    factors = random_factors({Q: 3, K: 2})
    saved = read_saved(write(tmp_path / "a.onnx_adapter", stored(factors, prefix)))
    assert saved.format == "onnx_adapter"
    assert_same(saved, factors)


def test_a_file_is_written_as_olive_does(tmp_path: Path) -> None:
    factors = random_factors({Q: 3, DOWN_PROJ: 2})
    factors[Q].scale = 0.3
    convert(write_peft(tmp_path / "peft", factors), "onnx_adapter", tmp_path / "a.onnx_adapter")
    expected, found = stored(factors), values_in(tmp_path / "a.onnx_adapter")
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-7)
    assert_same(read_saved(tmp_path / "a.onnx_adapter"), factors)
    inner = {name.removeprefix("model."): site for name, site in factors.items()}
    convert(write_peft(tmp_path / "b", inner), "onnx_adapter", tmp_path / "b.onnx_adapter")
    assert values_in(tmp_path / "b.onnx_adapter").keys() == {
        f"base_model.model.{name.removeprefix('model.')}" for name in expected
    }


def test_what_is_not_olives_is_refused(tmp_path: Path) -> None:
    good = stored(random_factors())
    refused(write(tmp_path / "a.onnx_adapter", {"x.lora_Q": np.ones((2, 2), "f4")}), "x.lora_Q")
    quantized = {f"{Q}.lora_A.quant.weight": np.ones((2, 2), "u1")}
    refused(write(tmp_path / "b.onnx_adapter", quantized), "uint8")
    half = {name: values for name, values in good.items() if "lora_A" in name}
    refused(write(tmp_path / "c.onnx_adapter", half), "lora_B")
    broken = {name: values.copy() for name, values in good.items()}
    broken[f"{Q}.lora_A.weight"][0, 0] = np.nan
    refused(write(tmp_path / "d.onnx_adapter", broken), f"{Q}.lora_A.weight", "NaN")
    twice = good | stored({Q: random_factors()[Q]}, "base_model.model.")
    refused(write(tmp_path / "e.onnx_adapter", twice), "twice", Q)


@pytest.mark.parametrize("size", [0, 5, 60])
def test_a_cut_file_is_refused(tmp_path: Path, size: int) -> None:
    file = write(tmp_path / "a.onnx_adapter", stored(random_factors()))
    file.write_bytes(file.read_bytes()[:size])
    refused(file, "damaged")


def test_dora_is_refused_by_name(tmp_path: Path) -> None:
    source = write_peft(tmp_path / "peft", random_factors(), use_dora=True)
    with pytest.raises(EdgeError, match=r"use_dora.*onnx_adapter"):
        convert(source, "onnx_adapter", tmp_path / "a.onnx_adapter")
    assert list(tmp_path.iterdir()) == [source]
