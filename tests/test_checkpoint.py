from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError


def folder(path: Path, tensors: dict[str, torch.Tensor], **config: object) -> Path:
    (path / "config.json").write_text(json.dumps({"model_type": "bert", **config}))
    save_file(tensors, path / "model.safetensors")
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_row_chunks_give_the_values_torch_reads(tmp_path: Path, dtype: torch.dtype) -> None:
    weight = torch.randn(37, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    checkpoint = Checkpoint(folder(tmp_path, {"w": weight}))
    rows = [rows for _, rows in checkpoint.row_chunks("w", max_bytes=100)]
    assert len(rows) == 8
    np.testing.assert_array_equal(np.concatenate(rows), weight.float().numpy())


def test_a_truncated_file_is_an_error_naming_it(tmp_path: Path) -> None:
    folder(tmp_path, {"w": torch.ones(4, 4)})
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(EdgeError, match=r"model\.safetensors: w: .*truncated"):
        Checkpoint(tmp_path)


def test_a_header_longer_than_the_file_is_an_error(tmp_path: Path) -> None:
    folder(tmp_path, {"w": torch.ones(4, 4)})
    (tmp_path / "model.safetensors").write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    with pytest.raises(EdgeError, match="expected a header"):
        Checkpoint(tmp_path)


def test_a_quantized_base_is_refused_by_name(tmp_path: Path) -> None:
    folder(tmp_path, {"w": torch.ones(2)}, quantization_config={"quant_method": "gptq"})
    with pytest.raises(EdgeError, match="gptq"):
        Checkpoint(tmp_path)


def test_nan_weights_are_refused_by_name(tmp_path: Path) -> None:
    checkpoint = Checkpoint(folder(tmp_path, {"w": torch.tensor([1.0, float("nan")])}))
    with pytest.raises(EdgeError, match="w: found NaN"):
        checkpoint.rows("w")
