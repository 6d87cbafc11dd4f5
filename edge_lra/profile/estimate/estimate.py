"""From a bundle and a device to latency, memory and load time, each a range."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_lra.bundle import load_manifest
from edge_lra.device import HOST, Device
from edge_lra.errors import EdgeError
from edge_lra.profile.estimate import memory
from edge_lra.profile.estimate.assumptions import list_assumptions
from edge_lra.profile.estimate.calibration import Calibration, calibrate, default_calibration
from edge_lra.profile.estimate.costs import BLOCKWISE, Cost, Product, costs_of
from edge_lra.profile.estimate.inputs import adapter_values, check_shapes, token_values
from edge_lra.profile.estimate.optimized import optimize
from edge_lra.profile.estimate.rates import (
    HIGH,
    LOW,
    MIDDLE,
    HostRates,
    Rates,
    SheetRates,
    classes_ms,
)
from edge_lra.profile.estimate.shapes import Walk, walk_graph
from edge_lra.profile.latencies import Shape
from edge_lra.profile.result import Estimate, ShapeEstimate

# On the machine of the calibration: the low end has every weight in the nearest cache and 10 %
# less of everything, the high end streams them from memory and takes 20 % more.
HOST_SLACK = (0.9, 1.2)
USABLE = 0.8  # of a device's memory: the rest is the system's


@dataclass(frozen=True)
class Counted:
    """A bundle's graph at one shape."""

    shape: Shape
    walk: Walk
    costs: tuple[Cost, ...]

    @property
    def set_mib(self) -> float:
        """Weights that a run streams."""
        return sum(cost.weight_bytes for cost in self.costs) / 2**20

    @property
    def blockwise(self) -> list[str]:
        """Dtypes of its products of weights in blocks."""
        parts = [part for cost in self.costs for part in cost.work if isinstance(part, Product)]
        return [dtype for dtype in BLOCKWISE if any(part.dtype == dtype for part in parts)]


def count(bundle: Path, shapes: Sequence[Shape], adapter: str | None = None) -> list[Counted]:
    """Return what a bundle's optimized graph has to do, by shape.

    Raises:
        EdgeError: not a bundle, a shape it cannot run, or an operator that cannot be costed.
    """
    manifest = load_manifest(bundle)
    check_shapes(manifest, shapes)
    factors = adapter_values(bundle, manifest, adapter)
    model = optimize(bundle, manifest.get("session_options") or {})
    counted = []
    for shape in shapes:
        walk = walk_graph(model, token_values(manifest, shape) | factors)
        counted.append(Counted(shape, walk, costs_of(walk)))
    return counted


def estimate(
    bundle: Path,
    device: Device,
    shapes: Sequence[Shape],
    threads: int,
    adapter: str | None = None,
    calibration: Calibration | None = None,
) -> Estimate:
    """Estimate a bundle on a device; nothing of it is run.

    The range of a latency: for this machine see HOST_SLACK, for others the guesses LOW, MIDDLE
    and HIGH of rates; `assumptions` says both.

    Args:
        bundle: the bundle's folder.
        device: a device with a data sheet, or `host`.
        shapes: (batch, tokens) each; tokens are taken to be unpadded.
        threads: cores in use, the fastest first.
        adapter: of a factored bundle; None for its default, else the first.
        calibration: of the kernels; None for this machine's own (`host`) or the one that
            travels with the package.

    Raises:
        EdgeError: the bundle, a shape, the adapter or the threads do not fit, or the device
            lacks a figure.
    """
    cores = (os.cpu_count() or 1) if device.name == HOST else device.cores
    if not 1 <= threads <= cores:
        raise EdgeError(
            f"threads: found {threads}, expected 1 to {cores}, the cores of {device.title}"
        )
    counted = count(Path(bundle), shapes, adapter)
    if calibration is None:
        calibration = calibrate(threads) if device.name == HOST else default_calibration()
    peaks = [memory.peak_rss_mib(each.walk) for each in counted]
    peak = max(low for low, _, _ in peaks), max(high for _, _, high in peaks)
    ram_mib = _ram_mib(device)
    return Estimate(
        threads,
        tuple(_latency(each, device, threads, calibration) for each in counted),
        memory.load_seconds(_file_bytes(Path(bundle)), _clock_ratio(device, calibration)),
        peak,
        None if ram_mib is None else peak[1] <= USABLE * ram_mib,
        list_assumptions(
            device,
            threads,
            calibration,
            [g for c in counted for g in c.walk.guessed],
            counted[0].blockwise,
        ),
    )


def _rates(
    each: Counted, device: Device, threads: int, calibration: Calibration
) -> tuple[Rates, Rates, Rates]:
    """Return the low, middle and high end."""
    if device.name == HOST:
        return (
            HostRates(calibration, threads, 0.0, HOST_SLACK[0]),
            HostRates(calibration, threads, each.set_mib),
            HostRates(calibration, threads, float("inf"), HOST_SLACK[1]),
        )
    return (
        SheetRates(calibration, device, threads, LOW),
        SheetRates(calibration, device, threads, MIDDLE),
        SheetRates(calibration, device, threads, HIGH),
    )


def _latency(
    each: Counted, device: Device, threads: int, calibration: Calibration
) -> ShapeEstimate:
    low, middle, high = (
        classes_ms(each.costs, rates) for rates in _rates(each, device, threads, calibration)
    )
    total = sum(middle.values())
    # Ends are taken apart from the middle: a faster cache could not make them cross.
    ends = min(total, sum(low.values())), max(total, sum(high.values()))
    return ShapeEstimate(each.shape, ends[0], total, ends[1], middle)


def _file_bytes(bundle: Path) -> int:
    return sum(file.stat().st_size for file in bundle.glob("model.onnx*"))


def _clock_ratio(device: Device, calibration: Calibration) -> float:
    if device.name == HOST:
        return 1.0
    return max(1.0, calibration.clock_ghz / device.clusters[0].clock_ghz)


def _ram_mib(device: Device) -> float | None:
    """Return the memory of a device; this machine is asked."""
    if device.name != HOST:
        return device.ram_mib
    import psutil

    return float(psutil.virtual_memory().total) / 2**20
