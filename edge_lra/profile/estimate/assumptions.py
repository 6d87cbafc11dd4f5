"""What an estimate rests on, a sentence each."""

from __future__ import annotations

from collections.abc import Sequence

from edge_lra.device import HOST, Device
from edge_lra.profile.estimate.calibration import Calibration
from edge_lra.profile.estimate.rates import (
    HIGH,
    LOW,
    MIDDLE,
    SLOWER_WASM,
    SheetRates,
    between,
    slower_blocks,
)


def list_assumptions(
    device: Device,
    threads: int,
    calibration: Calibration,
    guessed: Sequence[str],
    blockwise: Sequence[str],
) -> tuple[str, ...]:
    """Return every input of an estimate with its source.

    Args:
        device: the device.
        threads: cores in use.
        calibration: of the kernels.
        guessed: names of `If` nodes whose condition the input's content decides.
        blockwise: the bundle's dtypes of costs.BLOCKWISE.
    """
    # The widest doubt of all stands first, where a short report still shows it.
    lines = [_blocks(device)] if blockwise and device.name != HOST else []
    lines += [
        "The graph is the one onnxruntime's optimizer writes on this machine, at batches without "
        "padding.",
        f"Kernels are calibrated by micro-benchmarks on {calibration.cpu}, "
        f"{calibration.cores} cores, onnxruntime {calibration.onnxruntime}, "
        f"{calibration.measured_on}; no model was used.",
    ]
    lines += _host(calibration) if device.name == HOST else _sheet(device, threads, calibration)
    if threads > 1:
        lines.append(_shared(calibration, threads, blockwise))
    if guessed:
        lines.append(
            f"{len(guessed)} branches depend on the input's content; the first branch is costed."
        )
    lines.append(
        "Memory: imports and session as found on Linux x86-64 (Python 3.11, onnxruntime 1.32), "
        "one packed copy of the weights of products, table pages that are read, planned "
        "activations 1 to 2.5 times for the arena."
    )
    return tuple(lines)


def _host(calibration: Calibration) -> list[str]:
    return [
        "Range: from weights in the nearest cache and 10 % less, to weights from memory and 20 % "
        "more; the middle takes them from where a set of their size was found to lie.",
        f"Weights larger than every cache stream at {calibration.streamed_gb_s:.1f} GB/s to one "
        "core, as found.",
    ]


def _sheet(device: Device, threads: int, calibration: Calibration) -> list[str]:
    low, middle, high = (
        SheetRates(calibration, device, threads, guess).bandwidth_gb_s
        for guess in (LOW, MIDDLE, HIGH)
    )
    lines = []
    left = threads
    for cluster in device.clusters:
        used = min(left, cluster.cores)
        left -= used
        if used:
            lines.append(
                f"{used} x {cluster.core} at {cluster.clock_ghz:g} GHz: a core multiplies "
                f"{cluster.int8_macs_per_cycle.value:g} int8 "
                f"({cluster.int8_macs_per_cycle.source}) and "
                f"{cluster.fp32_macs_per_cycle.value:g} fp32 "
                f"({cluster.fp32_macs_per_cycle.source}) a cycle."
            )
    figure = device.measured_gb_s or device.theoretical_gb_s
    kind = "a copy's" if device.measured_gb_s else "the theoretical"
    assert figure is not None  # SheetRates.bandwidth_gb_s refused it above
    return [
        *lines,
        f"Range: the best product reaches {HIGH.peak_share:.0%} to {LOW.peak_share:.0%} of that "
        f"({MIDDLE.peak_share:.0%}), other kernels keep their ratio to it, {LOW.slack:g} to "
        f"{HIGH.slack:g} times.",
        f"Reading: {high:.1f} to {low:.1f} GB/s ({middle:.1f}), from {kind} {figure.value:g} GB/s "
        f"({figure.source}); weights come from memory each run.",
        "Streaming hides behind multiplying fully (low end), not at all (high end), or by "
        f"{calibration.overlap:.0%} as the calibration found.",
        f"Time around nodes by the ratio of clocks, calibrated at {calibration.clock_ghz:g} GHz.",
    ]


def _blocks(device: Device) -> str:
    slower = slower_blocks(device)
    if slower is None:
        return (
            "Products of weights in blocks keep their ratio to int8's, which use the same dot "
            f"products, {LOW.slack:g} to {HIGH.slack:g} times."
        )
    where = "in WebAssembly" if slower == SLOWER_WASM else "on Arm cores"
    return (
        "Products of weights in blocks: without dot products onnxruntime takes "
        f"{slower[0]:g} to {slower[1]:g} times as long as in fp32 "
        f"({between(slower, MIDDLE.slower):.0f}), as found {where}."
    )


def _shared(calibration: Calibration, threads: int, blockwise: Sequence[str]) -> str:
    if not calibration.serial:
        return f"{threads} threads share nothing: the calibration was taken on one."
    shares = ", ".join(
        f"{name} {calibration.serial[name]:.0%}"
        for name in ("int8", "fp32", *blockwise, "attention")
    )
    return (
        f"What {threads} threads do not shorten, found with {calibration.threads}: {shares} of "
        "the time on one core, cores of unlike speed counted by their speed."
    )
