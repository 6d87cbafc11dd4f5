"""What every way to a device can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Host:
    """What was found where a bundle runs; every number that is measured belongs to one.

    Attributes:
        arch: as `uname -m` prints it, such as x86_64 or aarch64.
        cpu: the processor's name.
        cores: logical cores.
        features: of the instruction set, as Linux names them; empty where they are not told.
        ram_mib: memory in all; None where it is not told.
        free_mib: memory that a new process can have.
        free_disk_mib: where bundles are put.
        versions: of Python, onnxruntime, numpy, edge-lra there, by name.
    """

    arch: str
    system: str
    cpu: str
    cores: int
    features: tuple[str, ...] = ()
    ram_mib: float | None = None
    free_mib: float | None = None
    free_disk_mib: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


class Transport(Protocol):
    """One device, reached one way. `clean_up` is called whatever happened before.

    Every verb raises EdgeError, one line that names the target and the remedy.
    """

    name: str  # a key of TRANSPORTS
    target: str  # as the user wrote it, or the machine's name
    keeps_time: bool  # whether time and memory there are the device's own: an emulator's are not

    def probe(self) -> Host:
        """Return what is there: the first contact, before anything is sent."""

    def push(self, bundle: Path) -> str:
        """Bring a bundle there unless it is there already, by content; return its place."""

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Let `edge_lra.agent` (or the native runner) answer a request there."""

    def pull(self, place: str, target: Path) -> None:
        """Copy a file from there."""

    def clean_up(self) -> None:
        """Remove what was brought, unless it was to be kept, and close the connection."""
