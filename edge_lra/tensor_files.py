"""Files of tensors, read by name in rows, never mapped: safetensors, and pickles without code."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge_lra.errors import EdgeError

Array = npt.NDArray[Any]
MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library
ITEM_BYTES = (
    dict.fromkeys(("F64", "I64", "U64", "C64"), 8)
    | dict.fromkeys(("F32", "I32", "U32"), 4)
    | dict.fromkeys(("F16", "BF16", "I16", "U16"), 2)
    | dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1)
)
FLOATS = ("F32", "F16", "BF16")
TORCH_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


@dataclass(frozen=True)
class TensorInfo:
    """A tensor without its data: name, shape, safetensors dtype name."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class TensorFile(Protocol):
    """One file of tensors, whatever its format."""

    path: Path
    tensors: dict[str, TensorInfo]

    @property
    def readable(self) -> Collection[str]:
        """The types that it reads as float32."""

    def read(self, name: str, start: int, stop: int) -> Array:
        """Return rows start..stop of a float tensor as float32, unchecked."""


class SafetensorsFile:
    """Tensors read by seek and readinto."""

    readable: Collection[str] = FLOATS

    def __init__(self, path: Path) -> None:
        """Read the header, no data."""
        self.path = path
        self.tensors, self._offsets = read_header(path)

    def read(self, name: str, start: int, stop: int) -> Array:
        """Return rows start..stop of a float tensor as float32, unchecked."""
        info = self.tensors[name]
        width, item = math.prod(info.shape[1:]), ITEM_BYTES[info.dtype]
        raw = np.empty((stop - start) * width * item, np.uint8)
        try:
            with self.path.open("rb") as file:
                file.seek(self._offsets[name] + start * width * item)
                count = file.readinto(raw.data)
        except OSError as error:
            raise unreadable(self.path, error) from None
        if count != raw.nbytes:
            raise EdgeError(
                f"{self.path}: {name}: found {count} bytes, expected {raw.nbytes}; "
                "the file is truncated, fetch it again"
            )
        return _to_float32(raw, info.dtype).reshape(stop - start, *info.shape[1:])


class TorchFile:
    """Tensors of a pickle that torch loads without running any code of it."""

    readable: Collection[str] = FLOATS

    def __init__(self, path: Path) -> None:
        """Load the pickle's structure; torch maps the data where the format allows."""
        self.path = path
        self._data = _load_pickle(path)
        self.tensors: dict[str, TensorInfo] = {}
        for name, tensor in self._data.items():
            dtype = str(getattr(tensor, "dtype", type(tensor).__name__)).removeprefix("torch.")
            if dtype not in TORCH_DTYPES:
                raise EdgeError(
                    f"{path}: {name}: found {dtype}, expected a tensor; save the state dict alone"
                )
            self.tensors[name] = TensorInfo(name, tuple(tensor.shape), TORCH_DTYPES[dtype])

    def read(self, name: str, start: int, stop: int) -> Array:
        """Return rows start..stop of a float tensor as float32, unchecked."""
        tensor = self._data[name].detach()
        part = (tensor if tensor.dim() else tensor.reshape(1))[start:stop]
        return np.array(part.float().numpy(), np.float32)


def open_tensor_file(path: Path) -> TensorFile:
    """Open a `.safetensors` or a `.bin` file by its suffix."""
    return SafetensorsFile(path) if path.suffix == ".safetensors" else TorchFile(path)


def read_rows(file: TensorFile, name: str, start: int = 0, stop: int | None = None) -> Array:
    """Return rows of a tensor as float32; a scalar counts as one row.

    Raises:
        EdgeError: the tensor is not a float one, ends early, or holds NaN or Inf.
    """
    info = file.tensors[name]
    if info.dtype not in file.readable:
        raise EdgeError(
            f"{file.path}: {name}: found {info.dtype}, expected F32, F16 or BF16; "
            "save the tensor in one of these"
        )
    count = info.shape[0] if info.shape else 1
    stop = count if stop is None else min(stop, count)
    values = file.read(name, start, max(start, stop))
    if not _all_finite(values):
        raise EdgeError(
            f"{file.path}: {name}: found NaN or Inf, expected finite values; "
            "the training diverged or the file is damaged, use another copy"
        )
    return values


def read_header(path: Path) -> tuple[dict[str, TensorInfo], dict[str, int]]:
    """Return the tensors of a safetensors file and their byte offsets in it.

    Raises:
        EdgeError: the file is missing, truncated, corrupt, or claims data it does not hold.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                raise EdgeError(
                    f"{path}: found {size} bytes, expected a header of {length}; "
                    "the file is truncated or no safetensors file, fetch it again"
                )
            header = json.loads(file.read(length), object_pairs_hook=_unique)
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise EdgeError(f"{path}: found a corrupt header, expected JSON; fetch it again")
    header.pop("__metadata__", None)
    begin, spans, infos = 8 + length, {}, {}
    for name, entry in header.items():
        infos[name], spans[name] = _entry(path, name, entry, size - begin)
    _check_layout(path, spans)
    return infos, {name: begin + start for name, (start, _) in spans.items()}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _entry(
    path: Path, name: str, entry: Any, data_bytes: int
) -> tuple[TensorInfo, tuple[int, int]]:
    try:
        dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if not all(type(n) is int and n >= 0 for n in (*shape, start, end)):
            raise ValueError
        if dtype not in ITEM_BYTES:
            raise EdgeError(
                f"{path}: {name}: found dtype {dtype}, expected one of {', '.join(FLOATS)}; "
                "save the tensor in one of these"
            )
        expected = math.prod(shape) * ITEM_BYTES[dtype]
    except (KeyError, TypeError, ValueError):
        raise EdgeError(
            f"{path}: {name}: found a corrupt header entry, expected dtype, shape and "
            "data_offsets; fetch the file again"
        ) from None
    if end - start != expected or end > data_bytes:
        raise EdgeError(
            f"{path}: {name}: found bytes {start}-{end} of {data_bytes}, expected {expected} bytes "
            "inside the file; it is truncated or corrupt, fetch it again"
        )
    return TensorInfo(name, shape, dtype), (start, end)


def _check_layout(path: Path, spans: dict[str, tuple[int, int]]) -> None:
    """Refuse tensors that share bytes or leave a hole, as the safetensors library does."""
    position = 0
    for name, (start, end) in sorted(spans.items(), key=lambda item: item[1]):
        if start != position:
            word = "overlapping the tensor before" if start < position else "after a gap"
            raise EdgeError(
                f"{path}: {name}: found bytes {start}-{end} {word}, expected a start at "
                f"{position}; the file is corrupt, fetch it again"
            )
        position = end


def _all_finite(values: Array) -> bool:
    """Say whether no value is NaN or Inf, by the extremes: neither hides from them."""
    with np.errstate(invalid="ignore"):
        extremes = values.max(initial=0.0), values.min(initial=0.0)
    return bool(np.isfinite(extremes).all())


def _to_float32(raw: Array, dtype: str) -> Array:
    if dtype == "BF16":
        wide = raw.view("<u2").astype(np.uint32)
        return np.left_shift(wide, 16, out=wide).view(np.float32)
    return raw.view({"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float32, copy=False)


def _load_pickle(path: Path) -> dict[str, Any]:
    import pickle
    import zipfile

    try:
        import torch
    except ImportError:
        raise EdgeError(
            f"{path}: found a pickle, expected torch to read it; pip install 'edge-lra[export]'"
        ) from None
    try:
        # Only the zip format can be mapped; older files are read whole.
        mapped = zipfile.is_zipfile(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on pickle protocols; an error says enough
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except OSError as error:
        raise unreadable(path, error) from None
    except pickle.UnpicklingError:
        raise EdgeError(
            f"{path}: found a pickle that is damaged or runs code, expected tensors only; "
            "use a safetensors copy"
        ) from None
    except Exception:  # a damaged pickle makes the unpickler raise anything
        raise EdgeError(
            f"{path}: found a damaged file, expected a torch state dict; fetch it again"
        ) from None
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise EdgeError(f"{path}: found {type(loaded).__name__}, expected a state dict; save that")
    return loaded


def unreadable(path: Path, error: OSError) -> EdgeError:
    """Return what to say of a file that the system does not let us read."""
    reason = error.strerror or type(error).__name__
    return EdgeError(f"{path}: found {reason}, expected a readable file; is the folder complete?")


def read_json(path: Path, unique: bool = False) -> Any:
    """Return what a JSON file holds, or say in one line what is wrong with it.

    Args:
        path: the file.
        unique: refuse a key that occurs twice in an object.
    """
    try:
        return json.loads(
            path.read_text(encoding="utf-8"), object_pairs_hook=_unique if unique else None
        )
    except FileNotFoundError:
        raise EdgeError(
            f"{path}: found no such file, expected JSON; is the folder complete?"
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise EdgeError(f"{path}: found {error}, expected JSON; fetch it again") from None


def read_config(path: Path, unique: bool = False) -> dict[str, Any]:
    """Return a JSON object from a file, as `read_json`."""
    document = read_json(path, unique)
    if not isinstance(document, dict):
        raise EdgeError(
            f"{path}: found {type(document).__name__}, expected a JSON object; fetch it again"
        )
    return document
