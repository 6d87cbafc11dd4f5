"""Tensors by name from a checkpoint folder; data is read in row chunks, never mapped."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_lra.errors import EdgeError

Array = npt.NDArray[Any]
ITEM_BYTES = {
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F64": 8,
    "I64": 8,
    "I32": 4,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's place without its data: name, shape, safetensors dtype name."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class _Place:
    file: Path
    offset: int  # bytes from the start of the file


def read_header(path: Path) -> tuple[dict[str, TensorInfo], dict[str, int]]:
    """Return the tensors of a safetensors file and their byte offsets in it.

    Raises:
        EdgeError: the file is missing, truncated, corrupt, or claims data it does not hold.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise EdgeError(
                    f"{path}: found {size} bytes, expected a header of {length}; "
                    "the file is truncated or no safetensors file, fetch it again"
                )
            header = json.loads(file.read(length))
    except FileNotFoundError:
        raise EdgeError(f"{path}: found no such file; is the folder complete?") from None
    except ValueError:
        raise EdgeError(f"{path}: found a corrupt header, expected JSON; fetch it again") from None
    infos: dict[str, TensorInfo] = {}
    offsets: dict[str, int] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        infos[name] = _entry(path, name, entry, size - 8 - length)
        offsets[name] = 8 + length + entry["data_offsets"][0]
    return infos, offsets


def _entry(path: Path, name: str, entry: Any, data_bytes: int) -> TensorInfo:
    try:
        shape = tuple(int(n) for n in entry["shape"])
        dtype, (start, end) = entry["dtype"], entry["data_offsets"]
        expected = math.prod(shape) * ITEM_BYTES[dtype]
    except (KeyError, TypeError, ValueError):
        raise EdgeError(f"{path}: {name}: found a corrupt header entry; fetch it again") from None
    if min(start, *shape, 0) < 0 or end - start != expected or end > data_bytes:
        raise EdgeError(
            f"{path}: {name}: found bytes {start}-{end} of {data_bytes}, expected {expected} bytes "
            "inside the file; it is truncated or corrupt, fetch it again"
        )
    return TensorInfo(name, shape, dtype)


def _read(info: TensorInfo, place: _Place, start: int, stop: int) -> Array:
    if info.dtype not in FLOATS:
        raise EdgeError(f"{place.file}: {info.name}: found {info.dtype}, expected F32, F16 or BF16")
    width = math.prod(info.shape[1:])
    item = ITEM_BYTES[info.dtype]
    raw = np.empty((stop - start) * width * item, np.uint8)
    with place.file.open("rb") as file:
        file.seek(place.offset + start * width * item)
        if raw.nbytes and file.readinto(raw.data) != raw.nbytes:
            raise EdgeError(f"{place.file}: {info.name}: found its end early; fetch the file again")
    values = _to_float32(raw, info.dtype)
    if not np.isfinite(values).all():
        raise EdgeError(f"{place.file}: {info.name}: found NaN or Inf, expected finite weights")
    return values


def read_tensors(path: Path) -> dict[str, Array]:
    """Return all float tensors of a small safetensors file as float32, checked like a base's."""
    infos, offsets = read_header(path)
    tensors = {}
    for name, info in infos.items():
        count = info.shape[0] if info.shape else 1
        tensors[name] = _read(info, _Place(path, offsets[name]), 0, count).reshape(info.shape)
    return tensors


class Checkpoint:
    """A model folder in Hugging Face layout with safetensors weights."""

    def __init__(self, path: Path) -> None:
        """Read the config and the headers, no tensor data."""
        self.path = path
        self.config = read_config(path / "config.json")
        if "quantization_config" in self.config:
            method = self.config["quantization_config"].get("quant_method", "unknown")
            raise EdgeError(
                f"{path}: found a quantized base (quantization_config, {method}), expected float "
                "weights; use the model it was made from"
            )
        self._places: dict[str, _Place] = {}
        self.tensors: dict[str, TensorInfo] = {}
        for file in weight_files(path):
            infos, offsets = read_header(file)
            self.tensors |= infos
            self._places |= {name: _Place(file, offset) for name, offset in offsets.items()}

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Return rows of a tensor as float32.

        Raises:
            EdgeError: the tensor is not a float one, ends early, or holds NaN or Inf.
        """
        info, place = self.tensors[name], self._places[name]
        count = info.shape[0] if info.shape else 1
        stop = count if stop is None else min(stop, count)
        return _read(info, place, start, stop).reshape(stop - start, *info.shape[1:])

    def row_chunks(self, name: str, max_bytes: int = 8 << 20) -> Iterator[tuple[int, Array]]:
        """Yield (first row, float32 rows) in chunks of at most `max_bytes`, at least one row."""
        shape = self.tensors[name].shape
        step = max(1, max_bytes // max(1, 4 * math.prod(shape[1:])))
        for start in range(0, shape[0], step):
            yield start, self.rows(name, start, start + step)


def _to_float32(raw: Array, dtype: str) -> Array:
    if dtype == "BF16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    return raw.view({"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float32, copy=False)


def read_config(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file, or say in one line what is wrong with it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EdgeError(f"{path}: found no such file; is the folder complete?") from None
    except ValueError as error:
        raise EdgeError(f"{path}: found {error}, expected JSON; fetch it again") from None
    if not isinstance(document, dict):
        raise EdgeError(f"{path}: found {type(document).__name__}, expected a JSON object")
    return document


def weight_files(path: Path) -> list[Path]:
    """Return the folder's safetensors files, single or sharded."""
    index = path / "model.safetensors.index.json"
    if index.exists():
        names = read_config(index).get("weight_map", {}).values()
        return [path / name for name in sorted(set(names))]
    single = path / "model.safetensors"
    if single.exists():
        return [single]
    raise EdgeError(f"{path}: found no weights, expected model.safetensors or its index")
