"""How long a cost takes: on this machine by its calibration, elsewhere by the data sheet.

Either way a product takes max(compute, memory) + (1 - overlap) min(compute, memory): onnxruntime's
packed kernels wait for weights that stream, and on the machine of the default calibration the two
times add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from edge_lra.device import Cluster, Device
from edge_lra.errors import EdgeError
from edge_lra.profile.estimate.calibration import Calibration
from edge_lra.profile.estimate.costs import BLOCKWISE, Cost, Heads, Product, Swept

CACHED_BYTES = 1 << 20  # activations of a node that a device's caches are taken to hold


# With one of these, block products keep their ratio to int8's, which uses the same instructions.
DOT_PRODUCTS = frozenset({"asimddp", "avx_vnni", "avx512_vnni", "avx2"})
# Without, onnxruntime multiplies blocks by plain loops: how many times longer than in float32, as
# found on Cortex-A53 and A72, and in a browser's WebAssembly.
SLOWER_ARM, SLOWER_WASM = (5.0, 30.0), (8.0, 27.0)


class Rates(Protocol):
    """The time of one node."""

    def kernel_s(self, cost: Cost) -> float:
        """Return the seconds inside the kernels."""

    def overhead_s(self, cost: Cost) -> float:
        """Return the seconds around them."""


@dataclass(frozen=True)
class HostRates:
    """This machine.

    Attributes:
        threads: cores of one kind, that share what each class can share.
        set_mib: weights that a run streams: it decides which cache they come from.
        factor: on every time.
    """

    calibration: Calibration
    threads: int
    set_mib: float
    factor: float = 1.0

    def kernel_s(self, cost: Cost) -> float:
        """Return the seconds inside the kernels."""
        return self.factor * sum(self._part(part) for part in cost.work)

    def overhead_s(self, cost: Cost) -> float:
        """Return the seconds around them."""
        branch = self.calibration.branch_s if cost.branch else 0.0
        return self.factor * (self.calibration.node_s + branch)

    def _part(self, part: Product | Heads | Swept) -> float:
        known = self.calibration
        seconds = _alone_s(known, part, self.set_mib)
        return seconds * known.slowdown(_kind(part), self.threads)


def _kind(part: Product | Heads | Swept) -> str:
    """Return the calibration's name of a part, as `serial` has it."""
    if isinstance(part, Product):
        return part.dtype
    return "attention" if isinstance(part, Heads) else part.curve


def _alone_s(known: Calibration, part: Product | Heads | Swept, set_mib: float) -> float:
    """Return the seconds on one core of the calibration's machine, without the node around."""
    if isinstance(part, Product):
        place = set_mib if part.stored else 0.0
        each = part.depth * part.columns
        seconds = part.weights * known.weight_seconds(part.dtype, part.rows, place, each)
        outputs = part.batch * part.rows * part.columns
        return seconds + (outputs * known.output_s if part.dtype == "int8" else 0.0)
    if isinstance(part, Heads):
        whole = known.head_seconds(part.tokens, part.size, part.masked)  # each token asks
        return part.heads * whole * part.queries / part.tokens
    return max(0.0, known.curve_seconds(part.curve, part.amount) - known.node_s)


@dataclass(frozen=True)
class Guess:
    """One end of the range for a device that was not measured.

    Attributes:
        peak_share: what the best product reaches of the data sheet's multiplications.
        copy_factor: bytes read a second over the bytes a measured copy moves (counted once).
        theory_share: of the theoretical bandwidth, where no copy was measured.
        overlap: as in the module's formula; None for the calibration's.
        slack: factor on all that is not multiplying or streaming, and on block products where
            they keep their ratio to int8's.
        slower: place between the ends of `slower_blocks`, which are multiplied: 0 to 1.
    """

    peak_share: float
    copy_factor: float
    theory_share: float
    overlap: float | None
    slack: float
    slower: float


# From well-tuned wide cores to in-order ones that share their memory with a display.
LOW = Guess(0.90, 2.0, 0.80, 1.0, 0.7, 0.0)
MIDDLE = Guess(0.70, 1.5, 0.50, None, 1.0, 0.5)
HIGH = Guess(0.45, 1.0, 0.30, 0.0, 2.0, 1.0)


@dataclass(frozen=True)
class SheetRates:
    """A device by its data sheet; efficiencies of the kinds of kernels from a calibration."""

    calibration: Calibration
    device: Device
    threads: int
    guess: Guess

    def kernel_s(self, cost: Cost) -> float:
        """Return the seconds inside the kernels."""
        return sum(self._part(part) for part in cost.work)

    def overhead_s(self, cost: Cost) -> float:
        """Return the seconds around them, by the ratio of clocks."""
        known = self.calibration
        seconds = known.node_s + (known.branch_s if cost.branch else 0.0)
        return seconds * self.guess.slack * known.clock_ghz / self.device.clusters[0].clock_ghz

    @property
    def bandwidth_gb_s(self) -> float:
        """What all cores together read."""
        theory, copy = self.device.theoretical_gb_s, self.device.measured_gb_s
        if copy is not None:
            found = copy.value * self.guess.copy_factor
            return min(found, theory.value) if theory is not None else found
        if theory is None:
            raise EdgeError(
                f"device {self.device.name}: found no bandwidth, expected theoretical_gb_s or "
                "measured_gb_s; add one to its file"
            )
        return theory.value * self.guess.theory_share

    def rate_macs_per_s(self, dtype: str) -> float:
        """Return the best rate of the fastest core."""
        return peak_macs_per_s(self.device.clusters[0], dtype) * self.guess.peak_share

    def _part(self, part: Product | Heads | Swept) -> float:
        known = self.calibration
        dtype, kernel, factor = self._scaled_by(part)
        ratio = known.best_macs_per_s(dtype) / self.rate_macs_per_s(dtype)
        compute = factor * ratio * _alone_s(known, kernel, 0.0)
        compute *= known.slowdown(_kind(part), self.speedup(dtype))
        return self._together(compute, self._moved_bytes(part) / (self.bandwidth_gb_s * 1e9))

    def _scaled_by(
        self, part: Product | Heads | Swept
    ) -> tuple[str, Product | Heads | Swept, float]:
        """Return whose rate of the data sheet scales a part, what is calibrated, and a factor."""
        if not isinstance(part, Product):
            return "fp32", part, self.guess.slack
        if part.dtype not in BLOCKWISE:
            return part.dtype, part, 1.0
        slower = slower_blocks(self.device)
        if slower is None:
            return "int8", part, self.guess.slack
        return "fp32", replace(part, dtype="fp32"), between(slower, self.guess.slower)

    def _together(self, compute: float, memory: float) -> float:
        overlap = self.calibration.overlap if self.guess.overlap is None else self.guess.overlap
        return max(compute, memory) + (1 - overlap) * min(compute, memory)

    def _moved_bytes(self, part: Product | Heads | Swept) -> int:
        moved = part.moved_bytes if part.moved_bytes > CACHED_BYTES else 0
        return moved + (part.weight_bytes if isinstance(part, Product) and part.stored else 0)

    def speedup(self, dtype: str) -> float:
        """Return what the cores in use reach together over the fastest one."""
        rates = [
            peak_macs_per_s(cluster, dtype)
            for cluster in self.device.clusters
            for _ in range(cluster.cores)
        ]
        return sum(rates[: self.threads]) / rates[0]


def slower_blocks(device: Device) -> tuple[float, float] | None:
    """Return how many times longer than in float32 block products take, at least and at most.

    None where the fastest core has dot products: there they are scaled from int8's.
    """
    if DOT_PRODUCTS & set(device.clusters[0].features):
        return None
    return SLOWER_WASM if device.arch.startswith("wasm") else SLOWER_ARM


def between(ends: tuple[float, float], place: float) -> float:
    """Return the factor at a place (0 to 1) between two, as far from one as from the other."""
    return float(ends[0] * (ends[1] / ends[0]) ** place)


def peak_macs_per_s(cluster: Cluster, dtype: str) -> float:
    """Return the multiply-accumulates of one core by the data sheet."""
    figure = cluster.int8_macs_per_cycle if dtype == "int8" else cluster.fp32_macs_per_cycle
    return figure.value * cluster.clock_ghz * 1e9


def classes_ms(costs: Sequence[Cost], rates: Rates) -> dict[str, float]:
    """Return milliseconds by class of operator, and around the nodes under "overhead"."""
    total: dict[str, float] = {}
    for cost in costs:
        if cost.work:
            total[cost.kind] = total.get(cost.kind, 0.0) + 1e3 * rates.kernel_s(cost)
    total["overhead"] = 1e3 * sum(map(rates.overhead_s, costs))
    return dict(sorted(total.items(), key=lambda item: -item[1]))
