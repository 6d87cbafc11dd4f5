"""What a calibrating run finds of the values that linears read, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from os import SEEK_END
from tempfile import SpooledTemporaryFile, gettempdir
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_lra.errors import EdgeError
from edge_lra.quantize.compensate import Coupling, couple
from edge_lra.quantize.compensate.coupling import DAMPING

Array = npt.NDArray[Any]
IN_MEMORY = 1 << 24


@dataclass(frozen=True)
class Reading:
    """One value that linears read, by channel.

    Attributes:
        low: (width,) the least value.
        high: (width,) the largest.
        mean: (width,).
        covariance: returns that of the channels (width, width); None where no text was run. A
            moment would lose the variance of channels whose mean is 1000 times as large.
    """

    low: Array
    high: Array
    mean: Array
    covariance: Callable[[], Array] | None = None

    @property
    def extreme(self) -> Array:
        """The largest magnitude of each channel, (width,)."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @cached_property
    def moment(self) -> Callable[[], Array] | None:
        """Return what gives X'X / tokens (width, width); None where no text was run."""
        if self.covariance is None:
            return None
        found, mean = self.covariance, self.mean
        return lambda: np.asarray(found() + np.outer(mean, mean))

    def shifted(self, shift: Array, scale: Array) -> Reading:
        """Return the reading of (x - shift) * scale."""
        low, high, mean = ((end - shift) * scale for end in (self.low, self.high, self.mean))
        if self.covariance is None:
            return Reading(low, high, mean)
        found = self.covariance
        return Reading(low, high, mean, lambda: np.asarray(found() * np.outer(scale, scale)))


@dataclass(frozen=True)
class Read:
    """What a linear reads, as adapters beside it do: neither centred nor divided.

    Attributes:
        reading: of the value.
        shift: (width,) what is taken off it before it is rounded; None for nothing.
    """

    reading: Reading
    shift: Array | None = None


@dataclass(frozen=True)
class Extra:
    """How much of a rounded weight's error is multiplied beside it, in float32.

    Attributes:
        rank: of the factors.
        moment: returns X'X / tokens (width, width) of the value that is read.
    """

    rank: int
    moment: Callable[[], Array]


@dataclass(frozen=True)
class Known:
    """What a product may know of the value it reads.

    Attributes:
        span: the least and the largest value; None where each batch's own are taken.
        coupling: of the value's channels; None where weights are rounded plainly.
        extra: what is added of the error that rounding leaves; None for nothing.
        finer: the product's own weight is worth more bits than the scheme gives to others.
    """

    span: tuple[float, float] | None = None
    coupling: Callable[[], Coupling] | None = None
    extra: Extra | None = None
    finer: bool = False


class MomentFile:
    """Covariances wait on disk until their weights are written: few stay in memory."""

    def __init__(self) -> None:
        """Open a file that is gone once it is closed; up to IN_MEMORY bytes there is none."""
        self._file = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 (it lives with its readers)

    def keep(self, covariance: Array) -> Callable[[], Array]:
        """Write a covariance (width, width) in float32; return what reads it in float64.

        Raises:
            EdgeError: the folder for temporary files has no room.
        """
        width = len(covariance)
        self._file.seek(0, SEEK_END)
        start = self._file.tell()
        try:
            self._file.write(covariance.astype(np.float32).tobytes())
        except OSError as error:
            raise EdgeError(
                f"{gettempdir()}: found {error.strerror} while calibrating, expected room for "
                "covariances of all layers (22 GB for a decoder of 7B); set TMPDIR to another "
                "folder, or --without gptq --without mixed-bits"
            ) from None

        def read() -> Array:
            self._file.seek(start)
            values = np.frombuffer(self._file.read(4 * width * width), np.float32)
            return values.reshape(width, width).astype(np.float64)

        return read


class Couplings:
    """Makes couplings once they are needed, and keeps the last one.

    Weights that read one value are written one after the other.
    """

    def __init__(self, damping: float = DAMPING) -> None:
        """Keep none; `damping` as in `couple`."""
        self._damping = damping
        self._last: tuple[Callable[[], Array], Coupling] | None = None

    def later(self, moment: Callable[[], Array]) -> Callable[[], Coupling]:
        """Return what makes the coupling of a moment when it is called."""

        def get() -> Coupling:
            if self._last is None or self._last[0] is not moment:
                self._last = moment, couple(moment(), damping=self._damping)
            return self._last[1]

        return get
