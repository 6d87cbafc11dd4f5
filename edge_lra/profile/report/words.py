"""How a profile is put into words: never an estimate or an emulation as a measurement."""

from __future__ import annotations

from dataclasses import dataclass

from edge_lra.device import HOST
from edge_lra.profile.latencies import Shape, Timing, name_run
from edge_lra.profile.measurement import Measurement
from edge_lra.profile.result import Emulation, Entry, Estimate, Ratio

NAMED = 3  # unequal products; JSON names all
NO_TIMES = "no times: an emulator's say nothing"


def name_shape(shape: Shape) -> str:
    """Return `1x128`."""
    return name_run(shape)


def throughput(measured: Measurement, timing: Timing) -> float:
    """Return texts a second; of a language model's prompts, tokens a second."""
    return timing.tokens_per_s if is_generating(measured) else timing.texts_per_s


def throughput_unit(measured: Measurement) -> str:
    """Return the unit of `throughput`."""
    return "tokens/s" if is_generating(measured) else "texts/s"


def is_generating(measured: Measurement) -> bool:
    """Say whether a language model was measured: its shapes are prompts."""
    return bool(measured.decoding or measured.step)


def number(value: float) -> str:
    """Return a duration with the digits that its size deserves."""
    if abs(value) >= 100:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def rough(value: float) -> str:
    """Return an estimate with no more digits than it can mean."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2g}"


def span(low: float, high: float) -> str:
    """Return an estimate's range."""
    return f"{rough(low)} to {rough(high)}"


def count(value: int, name: str) -> str:
    """Return `1 thread`, `2 threads`."""
    return f"{value} {name}{'' if value == 1 else 's'}"


def about(entry: Entry) -> str:
    """Return what kind of bundle it is, and how large."""
    adapter = f", adapter {entry.adapter}" if entry.adapter else ""
    return f"{entry.mode}, {entry.scheme}, {entry.file_mib:.1f} MiB{adapter}"


def machine(measured: Measurement) -> str:
    """Return the host on which something ran."""
    host = measured.host
    return f"{host['cpu']}, {count(host['cores'], 'core')}, {host['arch']}, {host['system']}"


def measured_on(entry: Entry, measured: Measurement) -> str:
    """Say where it was measured, how that was reached, and with how many threads."""
    where = machine(measured)
    if entry.device != HOST:
        where = f"{entry.device_title} ({where})"
    way = "" if measured.transport == "local" else f", over {measured.transport}"
    return f"Measured on {where}, {count(measured.threads, 'thread')}{way}"


def executed_on(emulated: Emulation) -> str:
    """Say where it was executed, and that this is no place to time anything."""
    return f"Executed on an emulated {emulated.cpu} ({NO_TIMES})"


def estimated_for(entry: Entry, estimated: Estimate) -> str:
    """Say what it was computed for, and from what."""
    threads = count(estimated.threads, "thread")
    if entry.measured:  # only this machine gets both, and its kernels were timed
        return f"Estimated for this machine from its kernels' times, {threads}; not measured"
    return f"Estimated for {entry.device_title} from its data sheet, {threads}; not measured"


def checks(emulated: Emulation) -> list[tuple[str, str, bool]]:
    """Return what was compared under emulation: its name, what came out, whether it holds."""
    whole = emulated.matmuls_equal == emulated.matmuls
    others = ", ".join(emulated.unequal[:NAMED]) + (", …" if len(emulated.unequal) > NAMED else "")
    close = emulated.max_abs_error_float <= emulated.allowed_error_float
    return [
        (
            "int8 products",
            f"{emulated.matmuls_equal} of {emulated.matmuls} equal, every int32 of them"
            + (f"; not those of {others}" if others else ""),
            whole,
        ),
        (
            "golden cases",
            f"{emulated.cases} run; at most {emulated.max_abs_error_float:.3g} from the float "
            f"model ({emulated.allowed_error_float:.3g} allowed), {emulated.max_abs_error:.3g} "
            "from the outputs at export",
            close,
        ),
        (
            "best label",
            f"{emulated.agreed} of {emulated.decided} as the float model's, where its margin "
            "exceeds the error",
            emulated.agreed == emulated.decided,
        ),
    ]


def fit(estimated: Estimate) -> str:
    """Say whether the upper end fits in the device's memory."""
    if estimated.fits is None:
        return "the device's memory is not known"
    return "fits in its memory" if estimated.fits else "DOES NOT FIT in its memory"


def calibration(estimated: Estimate) -> str:
    """Return the method's error on this machine, in all first; or that there is none."""
    errors = estimated.calibration_error
    if not errors:
        return "not compared with measurements on this machine"
    order = sorted(errors, key=lambda name: name != "total")
    return ", ".join(f"{name} {100 * errors[name]:.0f} %" for name in order)


@dataclass(frozen=True)
class Compared:
    """A ratio as a person says it: `factor` is at least 1 where `verdict` is faster or slower."""

    verdict: str
    factor: float
    low: float
    high: float


def compare(ratio: Ratio) -> Compared:
    """Say faster or slower only where the interval leaves 1 out."""
    low, high = ratio.interval
    if low <= 1 <= high:
        return Compared("as fast as", ratio.ratio, low, high)
    if ratio.ratio > 1:
        return Compared("faster than", ratio.ratio, low, high)
    return Compared("slower than", 1 / ratio.ratio, 1 / high, 1 / low)


def verdict(ratio: Ratio) -> str:
    """Return `1.24x faster`, or that there is no difference to tell."""
    said = compare(ratio)
    if said.verdict == "as fast as":
        return "cannot be told apart"
    return f"{said.factor:.3f}x {said.verdict.removesuffix(' than')}"


def comparison(ratio: Ratio, first: str, second: str) -> str:
    """Return a sentence on two bundles that ran in turns."""
    said = compare(ratio)
    interval = f"{said.low:.3f} to {said.high:.3f}"
    shape = ratio.name
    if said.verdict == "as fast as":
        return (
            f"{shape} at p50: {first} and {second} cannot be told apart "
            f"({said.factor:.3f}x, 95 % interval {interval})"
        )
    return (
        f"{shape} at p50: {first} is {said.factor:.3f}x {said.verdict} {second} "
        f"(95 % interval {interval})"
    )
