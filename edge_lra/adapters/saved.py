"""An adapter as its files hold it: PEFT's names and settings, not matched to a base yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from edge_lra.errors import EdgeError
from edge_lra.places import ADAPTER_WEIGHTS
from edge_lra.tensor_files import TensorFile, open_tensor_file, read_rows

if TYPE_CHECKING:
    from edge_lra.adapters.formats.format import Base

Array = npt.NDArray[Any]
PEFT_PREFIX = "base_model.model."
SHARED_PREFIX = "base_model.vera_"  # what all sites of a VeRA use stands beside the model


@dataclass(frozen=True)
class Saved:
    """What an adapter's files say.

    Attributes:
        path: the folder (or file) it was read from.
        format: the format it was found to be in, such as "PEFT".
        config_file: where the settings stand, for messages.
        file: where the tensors stand, for messages.
        config: the settings, as PEFT's adapter_config.json has them.
        tensors: float32 by PEFT's name without `base_model.model.`.
    """

    path: Path
    format: str
    config_file: Path
    file: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Array]


def read_saved(path: str | Path, base: Base | None = None) -> Saved:
    """Read an adapter in any known format; its content says which.

    Args:
        path: a folder or a file.
        base: the model it is for; some formats need its names, shapes and heads.

    Raises:
        EdgeError: the format is unknown, needs a base, or a file is incomplete or damaged.
    """
    from edge_lra.adapters.formats import read_any

    return read_any(path, base)


def find_weights(folder: Path) -> Path:
    """Return the file of an adapter's tensors.

    Raises:
        EdgeError: the folder has none.
    """
    for name in ADAPTER_WEIGHTS:
        if (folder / name).exists():
            return folder / name
    raise EdgeError(
        f"{folder}: found no weights, expected {' or '.join(ADAPTER_WEIGHTS)}; "
        "is the folder complete?"
    )


class LazyTensors(Mapping[str, Array]):
    """Tensors of a file by other names, each read when it is asked for and not kept."""

    def __init__(self, file: TensorFile, names: Mapping[str, str]) -> None:
        """Take the file and its name of each tensor by the name it has here."""
        self._file, self._names = file, names

    def __getitem__(self, name: str) -> Array:
        """Read a tensor as float32.

        Raises:
            EdgeError: it is not a float one, ends early, or holds NaN or Inf.
        """
        return read_rows(self._file, self._names[name])

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._names)


class Picked(Mapping[str, Array]):
    """Some tensors of another mapping by names of their own; nothing is read before it is used."""

    def __init__(self, tensors: Mapping[str, Array], keys: Mapping[str, str]) -> None:
        """Take the tensors, and the key of each by its name here."""
        self._tensors, self.keys_by_name = tensors, keys

    def __getitem__(self, name: str) -> Array:
        """Return a tensor."""
        return self._tensors[self.keys_by_name[name]]

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self.keys_by_name)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.keys_by_name)


def read_tensors(path: Path) -> LazyTensors:
    """Return the adapter's tensors with PEFT's prefix, which all or none of them have, removed."""
    file = open_tensor_file(path)
    prefixed = [key for key in file.tensors if key.startswith((PEFT_PREFIX, SHARED_PREFIX))]
    if prefixed and len(prefixed) != len(file.tensors):
        odd = min(set(file.tensors) - set(prefixed))
        raise EdgeError(
            f"{path}: {odd}: found no prefix {PEFT_PREFIX}, expected it as on the other tensors; "
            "save the adapter with PEFT's save_pretrained"
        )
    return LazyTensors(file, {key.removeprefix(PEFT_PREFIX): key for key in file.tensors})
