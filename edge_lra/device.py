"""Devices: what is known of the machines a bundle may run on, one TOML each in `devices/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

HOST = "host"  # this machine, whatever it is


@dataclass(frozen=True)
class Figure:
    """A number and where it comes from."""

    value: float
    source: str


@dataclass(frozen=True)
class Cluster:
    """Cores of one kind.

    Attributes:
        core: the core's name, such as Cortex-A76.
        clock_ghz: the highest clock the cluster sustains.
        features: of the instruction set, as Linux names them in /proc/cpuinfo.
        int8_macs_per_cycle: of one core, with the best instruction onnxruntime's kernels use.
        fp32_macs_per_cycle: of one core.
    """

    core: str
    cores: int
    clock_ghz: float
    features: tuple[str, ...]
    int8_macs_per_cycle: Figure
    fp32_macs_per_cycle: Figure


@dataclass(frozen=True)
class Device:
    """One device.

    Attributes:
        clusters: the fastest first; none for the host, which is asked when it is needed.
        ram_mib: of the smallest variant sold; None for the host.
        theoretical_gb_s: memory bandwidth of the data sheet, of all cores together.
        measured_gb_s: what a copy reaches, bytes counted once.
        providers: onnxruntime's execution providers that make sense there.
        scheme: the int8 scheme that suits it, a key of quantize.schemes.SCHEMES.
        scheme_reason: why.
        qemu_cpu: the emulator's name of its core; None where it is not emulated.
        transports: how it is reached, names of transport.TRANSPORTS.
        sources: what the file rests on, by what they show.
    """

    name: str
    title: str
    arch: str
    system: str
    clusters: tuple[Cluster, ...]
    ram_mib: int | None
    theoretical_gb_s: Figure | None
    measured_gb_s: Figure | None
    providers: tuple[str, ...]
    scheme: str
    scheme_reason: str
    qemu_cpu: str | None
    transports: tuple[str, ...]
    sources: Mapping[str, str]

    @property
    def cores(self) -> int:
        """The cores of all clusters."""
        return sum(cluster.cores for cluster in self.clusters)
