"""Bundles on devices: measured where there is one, else executed and estimated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edge_lra.device import HOST, Device, load_device, matches
from edge_lra.errors import EdgeError
from edge_lra.profile.bundles import (
    check_adapter,
    check_bundle,
    default_contexts,
    default_shapes,
    describe_bundle,
    generates,
)
from edge_lra.profile.latencies import Shape
from edge_lra.profile.measure import measure, tool_versions
from edge_lra.profile.plan import BUDGET_S, WARMUP, Plan
from edge_lra.profile.result import Emulation, Estimate, Profile
from edge_lra.transport import Host, Local, Progress, Transport, open_target, require_arch

Stage = Callable[[str], None]  # told what begins
# Resident once Python, numpy and onnxruntime are imported; what a bundle needs beside its files.
IMPORTS_MIB = 60.0


@dataclass(frozen=True)
class Study:
    """What is to be known of a bundle.

    Attributes:
        bundle: its folder.
        against: another bundle, in turns with the first where both are measured.
        devices: names or files; none for the target, or this machine.
        target: ssh:// or adb:, which is then the one device.
        keep: whether what is brought to the target stays there.
        estimate: no emulation; this machine is estimated beside its measurement, which tells the
            error of the method.
        shapes, threads, runs, budget_s, warmup, adapter, sweep, contexts: as `measure` takes them.
        devices_folder: the user's own devices.
    """

    bundle: Path
    against: Path | None = None
    devices: tuple[str, ...] = ()
    target: str | None = None
    keep: bool = False
    estimate: bool = False
    shapes: tuple[Shape, ...] | None = None
    threads: int = 1
    runs: int | None = None
    budget_s: float = BUDGET_S
    warmup: int = WARMUP
    adapter: str | None = None
    sweep: tuple[int, ...] = ()
    devices_folder: Path | None = None
    contexts: tuple[int, ...] | None = None

    @property
    def bundles(self) -> tuple[Path, ...]:
        """The bundles in the order of the entries."""
        return (self.bundle, *([self.against] if self.against is not None else []))


def run_study(
    study: Study,
    stage: Stage = lambda name: None,
    progress: Progress | None = None,
    execute: bool = True,
) -> Profile:
    """Profile every bundle on every device.

    A device is measured where a target names it, or where it is this machine; otherwise its core
    is emulated, as far as it can be, and its cost is estimated from its data sheet.

    Args:
        study: what is to be known.
        stage: told what begins.
        progress: told what is being sent to a target, the bytes so far and in all.
        execute: whether devices that are not at hand are emulated before they are estimated.

    Raises:
        EdgeError: a device, a target, a bundle or a number does not do.
    """
    if study.target is None and study.keep:
        raise EdgeError("--keep: found no --target, expected one; here is nothing to leave behind")
    if study.target is not None and len(study.devices) > 1:
        raise EdgeError(
            f"--target: found {len(study.devices)} devices for it, expected one; leave out --device"
        )
    if study.target is not None and study.estimate:
        raise EdgeError(
            "--estimate: found a --target, expected none; it estimates from data sheets"
        )
    devices = [load_device(name, study.devices_folder) for name in study.devices]
    names = [device.name for device in devices]
    if twice := [name for name in names if names.count(name) > 1]:
        raise EdgeError(f"--device: found {twice[0]} twice, expected each once")
    shapes = tuple(study.shapes) if study.shapes else default_shapes(study.bundles)
    contexts = study.contexts or default_contexts(study.bundles)
    study = replace(study, shapes=shapes, contexts=contexts)
    Plan(shapes, study.threads, study.runs, study.budget_s, study.warmup, study.adapter)
    check_adapter(study.bundles, study.adapter)
    for path in study.bundles:
        check_bundle(path, shapes, contexts)
    _check_estimates(study, devices, execute)
    if study.target is not None:
        way = open_target(study.target, study.keep, progress)
        return _on_target(study, devices[0] if devices else None, way, stage)
    devices = devices or [load_device(HOST)]
    parts = [_on_device(study, device, stage, execute) for device in devices]
    ratios = next((part.ratios for part in parts if part.ratios), ())
    entries = tuple(entry for part in parts for entry in part.entries)
    return Profile(entries, ratios, tool_versions())


def _check_estimates(study: Study, devices: list[Device], execute: bool) -> None:
    """Refuse estimates of language models: attention over a cache is not calibrated.

    A device that is not at hand executes them all the same, if its core can be emulated.

    Raises:
        EdgeError: names the bundle.
    """
    generating = [path for path in study.bundles if generates(path)]
    if not generating or study.target is not None:
        return
    away = [device for device in devices if not is_here(device)]
    if study.estimate or (away and not execute) or any(d.qemu_cpu is None for d in away):
        where = away[0].title if away else "this machine"
        raise EdgeError(
            f"{generating[0]}: found a language model to estimate for {where}, expected another "
            "bundle: what attention over a cache costs is not calibrated; measure it, here or "
            "with --target"
        )


def is_measured(study: Study) -> bool:
    """Say whether anything of a study will be measured."""
    if study.target is not None or not study.devices:
        return True
    return any(is_here(load_device(name, study.devices_folder)) for name in study.devices)


def is_here(device: Device) -> bool:
    """Say whether a device is this machine: its name stands for any machine of its kind."""
    return Local.name in device.transports and matches(device, Local().probe())


def _on_device(study: Study, device: Device, stage: Stage, execute: bool) -> Profile:
    """Measure here, or execute and estimate."""
    if is_here(device):
        stage(f"measuring on {device.title}")
        found = _named(_measure(study, None, stage), device.name, device.title)
        return _with_estimates(study, found, stage) if study.estimate else found
    entries = []
    for path in study.bundles:
        entry = describe_bundle(path, study.adapter, device.name, device.title)
        emulated = None if study.estimate or not execute else _emulate(path, device, stage)
        entry = replace(entry, emulated=emulated)
        if not generates(path):
            stage(f"estimating {device.title}")
            entry = replace(entry, estimated=_estimate(study, path, device))
        entries.append(entry)
    return Profile(tuple(entries))


def _emulate(path: Path, device: Device, stage: Stage) -> Emulation | None:
    """Execute a bundle on the device's core; None where no emulator has it."""
    if device.qemu_cpu is None:
        return None
    from edge_lra.profile.emulate import emulate
    from edge_lra.transport.qemu import Qemu

    way = Qemu(device.qemu_cpu)
    stage(f"executing on an emulated {device.qemu_cpu}")
    try:
        return emulate(path, way)
    finally:
        way.clean_up()


def _with_estimates(study: Study, found: Profile, stage: Stage) -> Profile:
    """Put an estimate for this machine beside each measurement, and its error."""
    from edge_lra.profile.estimate import estimate_error

    stage("estimating this machine; the first time its kernels are timed, about a minute")
    here = load_device(HOST)
    entries = []
    for path, entry in zip(study.bundles, found.entries, strict=True):
        guess = _estimate(study, path, here)
        assert entry.measured is not None
        error = estimate_error(guess, entry.measured) or None
        entries.append(replace(entry, estimated=replace(guess, calibration_error=error)))
    return replace(found, entries=tuple(entries))


def _estimate(study: Study, path: Path, device: Device) -> Estimate:
    from edge_lra.profile.estimate import estimate

    assert study.shapes is not None
    return estimate(path, device, study.shapes, study.threads, study.adapter)


def _on_target(study: Study, device: Device | None, way: Transport, stage: Stage) -> Profile:
    """Measure on a target; nothing is sent before what is there was found to do."""
    try:
        stage(f"asking {way.target}")
        host = way.probe()
        name, title = (device.name, device.title) if device else (way.target, host.cpu)
        if device is not None:
            require_arch(host, device.arch, way.target, device.title)
        for path in study.bundles:
            check_memory(path, host, way.target)
        if way.keeps_time:
            return _named(_measure(study, way, stage), name, title)
        from edge_lra.profile.emulate import emulate_there

        entries = []
        for path in study.bundles:
            stage(f"executing {path.name} on {way.target}")
            entry = describe_bundle(path, study.adapter, name, title)
            entries.append(replace(entry, emulated=emulate_there(path, way, host.cpu)))
        return Profile(tuple(entries), versions=tool_versions())
    finally:
        way.clean_up()


def check_memory(bundle: Path, host: Host, target: str) -> None:
    """Refuse a bundle that the host's free memory cannot hold, before it is sent.

    Raises:
        EdgeError: it names both sizes.
    """
    files = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file()) / 2**20
    free = host.free_mib if host.free_mib is not None else host.ram_mib
    if free is not None and files + IMPORTS_MIB > free:
        raise EdgeError(
            f"{bundle}: found {files:.0f} MiB and {IMPORTS_MIB:.0f} MiB for the runner, expected "
            f"at most the {free:.0f} MiB free on {target}; export it smaller (--quantize), or "
            "choose a larger device"
        )


def _measure(study: Study, way: Transport | None, stage: Stage) -> Profile:
    return measure(
        study.bundle,
        study.shapes,
        threads=study.threads,
        runs=study.runs,
        budget_s=study.budget_s,
        warmup=study.warmup,
        against=study.against,
        adapter=study.adapter,
        transport=way,
        sweep=study.sweep,
        progress=stage,
        contexts=study.contexts,
    )


def _named(profile: Profile, device: str, title: str) -> Profile:
    """Give every entry the name of the device that was asked for."""
    entries = [replace(e, device=device, device_title=title) for e in profile.entries]
    return replace(profile, entries=tuple(entries))
