"""A module's tensors by its own names, wherever they lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError
from edge_lra.tensor_files import FLOATS, Array, TensorInfo, read_rows

if TYPE_CHECKING:
    import torch


class StateFile:
    """A state dict in memory, read as a file of tensors is."""

    def __init__(self, path: Path, state: Mapping[str, torch.Tensor]) -> None:
        """Take the float32 tensors of a state dict; `path` stands for it in messages."""
        self.path, self.readable = path, FLOATS
        self._state = {n: t.detach() for n, t in state.items() if t.is_floating_point()}
        self.tensors = {n: TensorInfo(n, tuple(t.shape), "F32") for n, t in self._state.items()}

    def read(self, name: str, start: int, stop: int) -> Array:
        """Return rows start..stop as float32."""
        tensor = self._state[name]
        part = (tensor if tensor.dim() else tensor.reshape(1))[start:stop]
        return np.array(part.numpy(), np.float32)


class StateTensors(Checkpoint):
    """The parameters and buffers of a module in memory."""

    def __init__(
        self, path: Path, config: dict[str, Any], state: Mapping[str, torch.Tensor]
    ) -> None:
        """Take a state dict; `path` is the module's file, or the folder it was loaded from."""
        self.path, self.config, self._gguf = path, config, None
        self._state = StateFile(path, state)
        self.tensors = self._state.tensors

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """None: the tensors are in memory."""
        return ()

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Return rows of a tensor as float32; a scalar counts as one row.

        Raises:
            EdgeError: there is no such tensor, or it holds NaN or Inf.
        """
        if name not in self.tensors:
            raise EdgeError(f"{self.path}: found no tensor {name}, expected it in the module")
        return read_rows(self._state, name, start, stop)


class RenamedTensors(Checkpoint):
    """A checkpoint's tensors by the names that today's module gives them; nothing is read."""

    def __init__(self, checkpoint: Checkpoint, names: Mapping[str, str]) -> None:
        """Take the checkpoint and its name of each of the module's tensors."""
        self.path, self.config, self._gguf = checkpoint.path, checkpoint.config, None
        self._checkpoint, self._names = checkpoint, names
        self.tensors = {
            own: TensorInfo(own, checkpoint.tensors[name].shape, checkpoint.tensors[name].dtype)
            for own, name in names.items()
        }

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """The files that hold its tensors."""
        return self._checkpoint.weight_files

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Return rows of a tensor as float32; a scalar counts as one row.

        Raises:
            EdgeError: there is no such tensor, or it is damaged or not a float one.
        """
        return self._checkpoint.rows(self._names.get(name, name), start, stop)
