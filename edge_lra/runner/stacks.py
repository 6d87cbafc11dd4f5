"""Adapters side by side in memory: a row of a batch chooses one by an integer.

Each adapter input of a decoder has a leading axis of slots. Slot 0 is zeros: no adapter. Ranks are
padded to the largest with zeros, which add nothing.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_lra.runner.adapters import AdapterStore

RESIDENT = 32  # 1.9 MB each for r8 on q and v of 135M; a reload takes about 2 ms


class Lease:
    """The slots of one batch; its adapters stay resident as long as it lives.

    Attributes:
        arrays: the stacked tensors (slots, ..) by graph input.
        index: which slot each row uses, (rows,).
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], index: np.ndarray) -> None:
        self.arrays = arrays
        self.index = index


class Stacks:
    """The resident adapters of one bundle; safe from many threads."""

    def __init__(self, store: AdapterStore, limit: int = RESIDENT) -> None:
        """Take where adapters are read from, and how many may be resident."""
        self._store = store
        self._limit = limit
        self._slots: OrderedDict[str, int] = OrderedDict()  # the least recently used first
        self._leases: weakref.WeakSet[Lease] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._sizes = {axis: 0 for shape in store.shapes.values() for axis in _names(shape)}
        self._arrays = self._allocate(1)

    @property
    def resident(self) -> tuple[str, ...]:
        """The adapters in memory, the least recently used first."""
        return tuple(self._slots)

    @property
    def size(self) -> int:
        """Bytes of all stacks."""
        return sum(array.nbytes for array in self._arrays.values())

    def lease(self, names: Sequence[str | None]) -> Lease:
        """Return the slots of one adapter a row; those that are not resident are read.

        Raises:
            EdgeError: an adapter is unknown, foreign or damaged.
        """
        with self._lock:
            wanted = [name for name in dict.fromkeys(names) if name is not None]
            for name in wanted:
                if name in self._slots:
                    self._slots.move_to_end(name)
            fresh = {n: self._store.read(n) for n in wanted if n not in self._slots}
            for name, tensors in fresh.items():
                self._insert(name, tensors, wanted)
            index = [0 if name is None else self._slots[name] for name in names]
            lease = Lease(self._arrays, np.array(index, np.int64))
            self._leases.add(lease)
            return lease

    def _insert(self, name: str, tensors: Mapping[str, Any], wanted: Sequence[str]) -> None:
        sizes = dict(self._sizes)
        for key, tensor in tensors.items():
            for axis, size in zip(self._store.shapes[key], tensor.shape, strict=True):
                if isinstance(axis, str):
                    sizes[axis] = max(sizes[axis], size)
        slot = self._free_slot(wanted)
        slots = next(iter(self._arrays.values())).shape[0]
        if slot >= slots or sizes != self._sizes:
            self._sizes = sizes
            self._grow(slots if slot < slots else min(2 * slots, max(slot, self._limit) + 1))
        for key, tensor in tensors.items():
            place = self._arrays[key][slot]
            place[...] = 0  # what a larger rank left there
            place[tuple(slice(size) for size in tensor.shape)] = tensor
        self._slots[name] = slot

    def _free_slot(self, wanted: Sequence[str]) -> int:
        """Return a slot: the first that is new, or one whose adapter nobody uses any more."""
        if len(self._slots) >= self._limit:
            used = {int(slot) for lease in self._leases for slot in lease.index}
            for name, slot in self._slots.items():
                if slot not in used and name not in wanted:
                    del self._slots[name]
                    return slot
        return len(self._slots) + 1

    def _grow(self, slots: int) -> None:
        """Move to larger stacks; a lease keeps the ones it was given, and they stay right."""
        before, self._arrays = self._arrays, self._allocate(slots)
        for key, old in before.items():
            self._arrays[key][tuple(slice(size) for size in old.shape)] = old

    def _allocate(self, slots: int) -> dict[str, np.ndarray]:
        return {
            key: np.zeros(
                (slots, *(self._sizes[axis] if isinstance(axis, str) else axis for axis in shape)),
                self._store.dtypes[key],
            )
            for key, shape in self._store.shapes.items()
        }


def _names(shape: Sequence[int | str]) -> list[str]:
    return [axis for axis in shape if isinstance(axis, str)]
