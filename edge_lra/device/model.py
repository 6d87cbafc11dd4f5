"""What a device file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


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
        clock_ghz: the highest clock of its data sheet.
        features: of the instruction set, as Linux names them in /proc/cpuinfo.
        int8_macs_per_cycle: of one core, in the u8 x s8 kernel that onnxruntime chooses by its
            features; widening and pairwise additions between the products are counted in.
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
        arch: as `uname -m` prints it on Linux, such as aarch64; wasm32 in a browser.
        clusters: the fastest first; none for a host that does not tell its clock.
        ram_mib: of the smallest variant sold; None for a host that does not tell it.
        theoretical_gb_s: memory bandwidth of the data sheet, of all cores together.
        measured_gb_s: what a copy reaches, bytes counted once.
        providers: onnxruntime's execution providers that make sense there.
        scheme: the int8 scheme that suits it, a key of quantize.schemes.SCHEMES.
        scheme_reason: why.
        qemu_cpu: the emulator's name of its core, or of one whose features make onnxruntime
            choose the same kernels; None where it is not emulated.
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

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"cores": self.cores}
