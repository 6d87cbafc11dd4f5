from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edge_lra.checkpoint import Checkpoint, open_checkpoint
from edge_lra.errors import EdgeError


def folder(path: Path, tensors: dict[str, torch.Tensor], **config: object) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps({"model_type": "bert", **config}))
    save_file(tensors, path / "model.safetensors")
    return path


def raw_folder(path: Path, header: object, data: bytes) -> Path:
    folder(path, {"w": torch.ones(1)})
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file = path / "model.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize("kind", ["safetensors", "bin", "legacy bin"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_row_chunks_give_the_values_torch_reads(
    tmp_path: Path, dtype: torch.dtype, kind: str
) -> None:
    weight = torch.randn(37, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    folder(tmp_path, {"w": weight})
    if kind != "safetensors":
        (tmp_path / "model.safetensors").unlink()
        zipped = kind == "bin"
        target = tmp_path / "pytorch_model.bin"
        torch.save({"w": weight}, target, _use_new_zipfile_serialization=zipped)
    checkpoint = open_checkpoint(tmp_path)
    rows = [rows for _, rows in checkpoint.row_chunks("w", max_bytes=100)]
    assert len(rows) == 8
    np.testing.assert_array_equal(np.concatenate(rows), weight.float().numpy())


def shards(path: Path, weight_map: dict[str, Any]) -> Path:
    folder(path, {"w": torch.ones(1)})
    (path / "model.safetensors").unlink()
    save_file({"a": torch.ones(2, 3)}, path / "one.safetensors")
    save_file({"b": torch.zeros(4)}, path / "two.safetensors")
    index = path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


def test_shards_read_as_one_checkpoint(tmp_path: Path) -> None:
    checkpoint = Checkpoint(shards(tmp_path, {"b": "two.safetensors", "a": "one.safetensors"}))
    assert list(checkpoint.tensors) == ["a", "b"]
    assert checkpoint.rows("a", 1).tolist() == [[1, 1, 1]]
    assert checkpoint.rows("b").shape == (4,)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "two.safetensors"}, "found no tensor a"),
        ({"a": "three.safetensors"}, "three.safetensors: found No such file"),
        ({"a": "../one.safetensors"}, "expected a file beside it"),
        ({"a": 3}, "expected a file beside it"),
        ({}, "found no weight_map"),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_an_error(
    tmp_path: Path, weight_map: dict[str, Any], message: str
) -> None:
    with pytest.raises(EdgeError, match=message):
        Checkpoint(shards(tmp_path, weight_map))


def entry(start: int, end: int, **changes: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [1], "data_offsets": [start, end], **changes}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{", "found a corrupt header"),
        (b"\xff\xfe", "found a corrupt header"),
        (b"[" * 100_000, "found a corrupt header"),
        (b"[]", "found a corrupt header"),
        (b'{"w": 1, "w": 2}', "found a corrupt header"),
        ({"w": 1}, "w: found a corrupt header entry"),
        ({"w": entry(0, 4, shape=[-1])}, "w: found a corrupt header entry"),
        ({"w": entry(0, 4, shape=[1.5])}, "w: found a corrupt header entry"),
        ({"w": entry(0, 4, shape=[True])}, "w: found a corrupt header entry"),
        ({"w": entry(0, 4, dtype="F4")}, "w: found dtype F4"),
        ({"w": entry(0, 8, shape=[1])}, "w: found bytes 0-8"),
        ({"w": entry(0, 4000, shape=[1000])}, "w: found bytes 0-4000 of 8"),
        ({"v": entry(0, 4), "w": entry(0, 4)}, "found bytes 0-4 overlapping"),
        ({"v": entry(4, 8)}, "v: found bytes 4-8 after a gap"),
    ],
)
def test_a_bad_header_is_one_line(tmp_path: Path, header: object, message: str) -> None:
    with pytest.raises(EdgeError, match=message) as caught:
        Checkpoint(raw_folder(tmp_path, header, bytes(8)))
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_an_error_naming_it(tmp_path: Path) -> None:
    folder(tmp_path, {"w": torch.ones(4, 4)})
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    with pytest.raises(EdgeError, match=r"model\.safetensors: w: .*truncated"):
        Checkpoint(tmp_path)
    file.write_bytes(whole[:5])
    with pytest.raises(EdgeError, match="found 5 bytes"):
        Checkpoint(tmp_path)


def test_a_file_that_shrinks_after_opening_is_an_error(tmp_path: Path) -> None:
    checkpoint = Checkpoint(folder(tmp_path, {"w": torch.ones(4, 4)}))
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(EdgeError, match="w: found 59 bytes, expected 64"):
        checkpoint.rows("w")


def test_a_header_longer_than_the_file_is_an_error(tmp_path: Path) -> None:
    folder(tmp_path, {"w": torch.ones(4, 4)})
    (tmp_path / "model.safetensors").write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    with pytest.raises(EdgeError, match="expected a header"):
        Checkpoint(tmp_path)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("exit 1",)


@pytest.mark.parametrize(
    ("content", "message"),
    [({"w": Payload()}, "runs code"), ([1], "found list"), ({"w": {"x": 1}}, "w: found dict")],
)
def test_a_pickle_of_anything_but_tensors_is_refused(
    tmp_path: Path, content: object, message: str
) -> None:
    (folder(tmp_path, {"w": torch.ones(1)}) / "model.safetensors").unlink()
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(EdgeError, match=message):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 damaged"])
def test_a_damaged_bin_is_an_error(tmp_path: Path, content: bytes) -> None:
    (folder(tmp_path, {"w": torch.ones(1)}) / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(EdgeError, match=r"pytorch_model\.bin: found"):
        Checkpoint(tmp_path)


def test_a_quantized_base_is_refused_by_name(tmp_path: Path) -> None:
    folder(tmp_path, {"w": torch.ones(2)}, quantization_config={"quant_method": "gptq"})
    with pytest.raises(EdgeError, match="gptq"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_inf_are_refused_by_name(tmp_path: Path, value: float) -> None:
    checkpoint = Checkpoint(folder(tmp_path, {"w": torch.tensor([1.0, value])}))
    with pytest.raises(EdgeError, match="w: found NaN"):
        checkpoint.rows("w")


def test_an_integer_tensor_is_listed_but_not_read_as_a_weight(tmp_path: Path) -> None:
    checkpoint = Checkpoint(folder(tmp_path, {"ids": torch.arange(3)}))
    assert checkpoint.tensors["ids"].dtype == "I64"
    with pytest.raises(EdgeError, match="ids: found I64"):
        checkpoint.rows("ids")
    with pytest.raises(EdgeError, match="no tensor other"):
        checkpoint.rows("other")


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="no such folder"):
        open_checkpoint(tmp_path / "none")
    with pytest.raises(EdgeError, match=r"config\.json: found no such file"):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EdgeError, match="found no weights"):
        open_checkpoint(tmp_path)
