"""Adapters of a factored bundle: tensors by graph-input name, loaded when first used."""

from __future__ import annotations

import enum
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError

from edge_lra.errors import EdgeError
from edge_lra.runner.tensors import read_tensors

STACKED = "adapters"  # the leading axis of inputs that hold several
HEAD_ROLES = ("weight", "bias")  # of a task head, which cannot be off
CACHED = 32  # a reload costs 0.2-2 ms; a thousand adapters must not stay in memory


class Unset(enum.Enum):
    """The type of `UNSET`."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET  # "the default adapter", where None means "no adapter"
AdapterChoice = str | Unset | None


class AdapterStore:
    """The adapters of one bundle; safe from many threads."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any], verify: bool) -> None:
        self._folder = folder
        self._manifest = manifest
        self._verify = verify
        self._inputs: dict[str, Any] = {i["name"]: i for i in manifest.get("adapter_inputs") or ()}
        # A decoder's inputs hold several adapters; a file holds one.
        self.shapes = {name: _one(i["shape"]) for name, i in self._inputs.items()}
        self.dtypes = {name: np.dtype(i["dtype"]) for name, i in self._inputs.items()}
        self._entries: dict[str, Any] = (manifest.get("adapters") or {}) if self._inputs else {}
        self._loaded: OrderedDict[str, dict[str, np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()
        self._off = {
            name: np.zeros(_off_shape(s), self.dtypes[name]) for name, s in self.shapes.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters one can choose; none in a merged bundle."""
        return tuple(self._entries)

    @property
    def input_names(self) -> tuple[str, ...]:
        """The graph inputs that take adapter tensors."""
        return tuple(self._inputs)

    def check_name(self, name: str) -> None:
        """Raise EdgeError, listing the known adapters, unless `name` is one of them."""
        if name not in self._entries:
            known = ", ".join(self._entries) or "none"
            raise EdgeError(
                f"adapter: found {name!r}, expected one of: {known}"
                + ("" if self._inputs else f" (the bundle is {self._manifest.get('mode')})")
            )

    def labels(self, name: str | None) -> list[str] | None:
        """Return the label names that the adapter's outputs mean."""
        own = self._entries[name].get("labels") if name is not None else None
        labels: list[str] | None = own or self._manifest.get("labels")
        return labels

    def tensors(self, name: str | None) -> Mapping[str, np.ndarray]:
        """Return the graph inputs of an adapter; None gives factors of rank 0.

        Raises:
            EdgeError: the adapter is unknown, foreign or damaged, or the base has no head.
        """
        if name is None:
            if self._inputs and self._manifest.get("head") == "adapter":
                raise EdgeError(
                    "adapter: found none, expected one of: "
                    f"{', '.join(self.names)}; the base has no trained head"
                )
            return self._off
        self.check_name(name)
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = self.read(name)
                if len(self._loaded) > CACHED:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(name)
            return self._loaded[name]

    def read(self, name: str) -> dict[str, np.ndarray]:
        """Return the tensors of an adapter's file by graph input, and keep no copy.

        Raises:
            EdgeError: the adapter is unknown, foreign or damaged.
        """
        self.check_name(name)
        entry = self._entries[name]
        if entry.get("base") != self._manifest["base_fingerprint"]:
            raise EdgeError(
                f"adapter {name}: is foreign: found base {str(entry.get('base'))[:12]}, expected "
                f"{self._manifest['base_fingerprint'][:12]}; export it for this base"
            )
        path = self._folder / entry["file"]
        try:
            content = path.read_bytes()
            self._check_content(name, content)
            tensors = read_tensors(content)
        except (OSError, SafetensorError) as error:
            raise EdgeError(f"adapter {name}: {path} cannot be read: {error}") from error
        unknown = sorted(tensors.keys() - self._inputs.keys())
        if unknown:
            raise EdgeError(f"adapter {name}: the graph has no input {unknown[0]!r}")
        sizes: dict[str, int] = {}
        return {key: self._tensor(name, key, tensors.get(key), sizes) for key in self._inputs}

    def _check_content(self, name: str, content: bytes) -> None:
        listed = self._manifest["files"].get(self._entries[name]["file"])
        if self._verify and (
            listed is None or hashlib.sha256(content).hexdigest() != listed["sha256"]
        ):
            raise EdgeError(f"adapter {name}: its file changed since export; export it again")

    def _tensor(
        self, name: str, key: str, tensor: np.ndarray | None, sizes: dict[str, int]
    ) -> np.ndarray:
        """Return an input's tensor; `sizes` collects what each named axis of the file measures."""
        shape, dtype = self.shapes[key], self.dtypes[key]
        if tensor is None:
            if 0 not in self._off[key].shape or self._inputs[key].get("role") in HEAD_ROLES:
                raise EdgeError(
                    f"adapter {name}: found no {key}, expected shape {shape}; export it again"
                )
            return self._off[key]  # the adapter leaves this site alone
        fits = len(shape) == tensor.ndim and all(
            have == (want if isinstance(want, int) else sizes.setdefault(want, have))
            for want, have in zip(shape, tensor.shape, strict=True)
        )
        if not fits or tensor.dtype != dtype:
            wanted = [f"{want}={sizes[want]}" if want in sizes else want for want in shape]
            raise EdgeError(
                f"adapter {name}: {key}: found {tensor.dtype}{list(tensor.shape)}, "
                f"expected {dtype}{wanted}; export it for this base"
            )
        return tensor


def _one(shape: Sequence[int | str]) -> list[int | str]:
    """Return the shape of one adapter's tensor."""
    return list(shape[1:] if shape[0] == STACKED else shape)


def _off_shape(shape: Sequence[int | str]) -> tuple[int, ...]:
    return tuple(0 if isinstance(size, str) else size for size in shape)
