"""Keys and values of a batch: one buffer for past and present, bound once, grown by doubling.

GroupQueryAttention writes new keys behind the valid ones, and how many are valid is the sum of the
attention mask's row: a step of the loop overwrites token ids and one place of the mask, and binds
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort

from edge_lra.errors import EdgeError
from edge_lra.runner.session import first_line
from edge_lra.runner.stacks import Lease

FIRST = 256  # tokens a row has room for before anything is known; doubled when they are used up
CHUNK = 256  # prompt tokens a run


@dataclass(frozen=True)
class Layout:
    """What a decoder's manifest says about its inputs and outputs."""

    pairs: tuple[tuple[str, str], ...]  # past and present, of keys and values of each layer
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    scored: int  # the most tokens of a run that gives the logits of each
    adapter_index: str | None

    @classmethod
    def read(cls, manifest: Mapping[str, Any], context: int | None = None) -> Layout:
        """Take a manifest and how much of the model's context to use at most.

        Raises:
            EdgeError: the context is not the model's or less.
        """
        decoder = manifest["decoder"]
        longest = int(decoder["context_length"])
        if context is not None and not 2 <= context <= longest:
            raise EdgeError(f"context: found {context}, expected 2 to {longest}")
        return cls(
            tuple((pair["past"], pair["present"]) for pair in decoder["cache"]),
            int(decoder["kv_heads"]),
            int(decoder["head_size"]),
            int(manifest["vocabulary_size"]),
            context or longest,
            int(decoder["all_logits_tokens"]),
            decoder.get("adapter_index"),
        )


class Cache:
    """A batch of token sequences that the model has read, each of its own length.

    The logits that its methods return are overwritten by the next call.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        layout: Layout,
        rows: int = 1,
        lease: Lease | None = None,
        chunk: int = CHUNK,
    ) -> None:
        """Make room for rows without tokens; `lease` says which adapter each uses."""
        self._session: ort.InferenceSession | None = session
        self._layout = layout
        self._lease = lease
        self._chunk = chunk
        self.lengths = [0] * rows
        self._resting: set[int] = set()
        self._buffers: list[np.ndarray] = []
        self._mask = np.zeros((rows, 0), np.int64)
        self._lanes: dict[tuple[int | None, str], _Lane] = {}
        self.allocate(FIRST)

    @property
    def rows(self) -> int:
        """How many sequences there are."""
        return len(self.lengths)

    @property
    def capacity(self) -> int:
        """How many tokens a row has room for."""
        return self._mask.shape[1]

    @property
    def context(self) -> int:
        """How many tokens a row may have at most."""
        return self._layout.context

    @property
    def scored(self) -> int:
        """How many tokens `score` takes at most."""
        return self._layout.scored

    @property
    def size(self) -> int:
        """Bytes of keys and values."""
        return sum(buffer.nbytes for buffer in self._buffers)

    def prefill(self, ids: Sequence[int] | np.ndarray, row: int = 0) -> np.ndarray:
        """Let a row read more tokens, in chunks; return the logits, (vocabulary,), of the last."""
        tokens = self._check(ids, [row], len(ids))
        logits = np.empty(0, np.float32)
        for start in range(0, tokens.size, self._chunk):
            part = tokens[start : start + self._chunk]
            logits = self._read(row, part, "logits")[0]
        return logits

    def score(self, ids: Sequence[int] | np.ndarray, row: int = 0) -> np.ndarray:
        """Let a row read a few tokens; return the logits, (tokens, vocabulary), of each."""
        most = self._layout.scored
        if len(ids) > most:
            raise EdgeError(f"score: found {len(ids)} tokens, expected at most {most} a call")
        return self._read(row, self._check(ids, [row], len(ids)), "all_logits")

    def step(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Let every row read one token; return the logits, (rows, vocabulary).

        What the token of a row at rest is does not matter.
        """
        if len(ids) != self.rows:
            raise EdgeError(f"step: found {len(ids)} tokens, expected one a row: {self.rows}")
        awake = [row for row in range(self.rows) if row not in self._resting]
        tokens = self._check(ids, awake, 1)
        lane = self._lane(None, "logits")
        lane.ids[:, 0] = tokens
        for row in awake:
            self._mask[row, self.lengths[row]] = 1
        self._run(lane)
        for row in awake:
            self.lengths[row] += 1
        return lane.logits[:, 0]

    def rest(self, row: int) -> None:
        """Give up what a row has read; it costs no attention until it is prefilled again."""
        self._set_length(row, 1)  # a mask without a one means nothing to the model
        self.lengths[row] = 0
        self._resting.add(row)

    def truncate(self, length: int, row: int = 0) -> None:
        """Forget what a row has read behind its first `length` tokens."""
        if not 0 <= length <= self.lengths[row]:
            raise EdgeError(f"truncate: found {length}, expected 0 to {self.lengths[row]}")
        self._set_length(row, length)

    def use(self, lease: Lease) -> None:
        """Switch adapters; what was read before keeps the keys and values of the old ones."""
        if self._lease is None or lease.index.shape != self._lease.index.shape:
            raise EdgeError("cache: found adapters for other rows, expected one a row")
        same = lease.arrays is self._lease.arrays
        self._lease = lease
        if not same:
            self._lanes.clear()
        for lane in self._lanes.values():
            lane.choose(lease)

    def close(self) -> None:
        """Free the buffers; every later use is an error."""
        self._session = None
        self._lanes.clear()
        self._buffers.clear()

    def allocate(self, tokens: int) -> None:
        """Make room for so many tokens a row, at least; the next power of two, or the context."""
        if tokens <= self.capacity:
            return
        layout = self._layout
        capacity = min(layout.context, max(FIRST, 1 << (tokens - 1).bit_length()))
        self._lanes.clear()  # they hold the old buffers
        shape = (self.rows, layout.kv_heads, capacity, layout.head_size)
        used = max(self.lengths)
        for place in range(len(layout.pairs)):  # one at a time: never two whole caches
            buffer = np.zeros(shape, np.float32)  # whose pages are the system's until written to
            if place < len(self._buffers):
                buffer[:, :, :used] = self._buffers[place][:, :, :used]
                self._buffers[place] = buffer
            else:
                self._buffers.append(buffer)
        mask = np.zeros((self.rows, capacity), np.int64)
        mask[:, : self.capacity] = self._mask
        self._mask = mask

    def _check(self, ids: Any, rows: Sequence[int], count: int) -> np.ndarray:
        """Return the ids as an array, and make room for `count` more tokens in the rows."""
        if self._session is None:
            raise EdgeError("cache: is closed, or its last run failed; start another")
        tokens: np.ndarray = np.asarray(ids)
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu" or not tokens.size:
            raise EdgeError(
                f"tokens: found {tokens.dtype}{list(tokens.shape)}, expected a row of integers"
            )
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self._layout.vocabulary:  # onnxruntime takes -1 for the last one
            raise EdgeError(
                f"tokens: found {low if low < 0 else high}, expected ids of 0 to "
                f"{self._layout.vocabulary - 1}"
            )
        longest = max((self.lengths[row] + count for row in rows), default=0)
        if longest > self._layout.context:
            raise EdgeError(
                f"tokens: found {longest}, expected at most {self._layout.context}, the context; "
                "give fewer"
            )
        self.allocate(longest)
        return tokens

    def _read(self, row: int, tokens: np.ndarray, output: str) -> np.ndarray:
        """Let one row read tokens in one run; return the logits, (positions, vocabulary)."""
        if row in self._resting:
            self._resting.discard(row)
            self._set_length(row, 0)
        length = self.lengths[row] + tokens.size
        lane = self._lane(row, output)
        if lane.ids.shape[1] != tokens.size:
            lane.resize(tokens.size)
        lane.ids[0] = tokens
        lane.mask(np.ones((1, length), np.int64))
        self._run(lane)
        self._set_length(row, length)
        logits: np.ndarray = lane.logits[0]
        return logits

    def _set_length(self, row: int, length: int) -> None:
        self._mask[row, :length] = 1
        self._mask[row, length:] = 0
        self.lengths[row] = length

    def _lane(self, row: int | None, output: str) -> _Lane:
        key = (row, output)
        if key not in self._lanes:
            chosen = slice(None) if row is None else slice(row, row + 1)
            buffers = [buffer[chosen] for buffer in self._buffers]
            lane = _Lane(self._session, self._layout, buffers, output, chosen)
            if self._lease is not None:
                lane.choose(self._lease)
            if row is None:
                lane.mask(self._mask)
            self._lanes[key] = lane
        return self._lanes[key]

    def _run(self, lane: _Lane) -> None:
        try:
            lane.run()
        except Exception as error:  # onnxruntime's classes share no public base
            self.close()  # the buffers may hold half a step
            raise EdgeError(f"generation: the run failed: {first_line(error)}") from error


class _Lane:
    """The session's inputs and outputs, bound to the memory of one row or of all."""

    def __init__(
        self,
        session: Any,
        layout: Layout,
        buffers: Sequence[np.ndarray],
        output: str,
        rows: slice,
    ) -> None:
        self._vocabulary = layout.vocabulary
        self._adapter_index = layout.adapter_index
        self._rows = rows
        self._output = output
        self._binding = session.io_binding()
        self._session = session._sess  # past a wrapper whose checks a loop need not repeat
        self._held: dict[str, ort.OrtValue] = {}  # onnxruntime keeps no numpy array alive
        self._stacks: Mapping[str, np.ndarray] | None = None
        self._count = buffers[0].shape[0]
        self.index = np.zeros(self._count, np.int64)
        for (past, present), buffer in zip(layout.pairs, buffers, strict=True):
            self._bind_input(past, buffer)
            self._binding.bind_ortvalue_output(present, self._held[past])
        if layout.adapter_index is not None:
            self._bind_input(layout.adapter_index, self.index)
        self.resize(1)

    def _bind_input(self, name: str, array: np.ndarray) -> None:
        self._held[name] = ort.OrtValue.ortvalue_from_numpy(array)
        self._binding.bind_ortvalue_input(name, self._held[name])

    def resize(self, tokens: int) -> None:
        """Take another number of new tokens; everything else stays bound."""
        self.ids = np.zeros((self._count, tokens), np.int64)
        self._bind_input("input_ids", self.ids)
        positions = 1 if self._output == "logits" else tokens
        self.logits = np.zeros((self._count, positions, self._vocabulary), np.float32)
        self._held[self._output] = ort.OrtValue.ortvalue_from_numpy(self.logits)
        self._binding.bind_ortvalue_output(self._output, self._held[self._output])

    def mask(self, mask: np.ndarray) -> None:
        """Bind another attention mask, (rows, total)."""
        self._bind_input("attention_mask", mask)

    def choose(self, lease: Lease) -> None:
        """Use a lease's adapters: an integer a row, unless its stacks are new ones."""
        if lease.arrays is not self._stacks:
            for name, array in lease.arrays.items():
                self._bind_input(name, array)
            self._stacks = lease.arrays
        self.index[:] = lease.index[self._rows]

    def run(self) -> None:
        """Run the session on what the bound memory holds."""
        self._session.run_with_iobinding(self._binding._iobinding, None)
