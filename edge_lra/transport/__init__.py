"""Ways to a device: one class each, all with the same few verbs."""

from __future__ import annotations

from typing import Any

from edge_lra.transport.adb import Adb
from edge_lra.transport.address import bad_target
from edge_lra.transport.base import Host, Transport
from edge_lra.transport.host import require_arch
from edge_lra.transport.local import Local
from edge_lra.transport.process import NotAnswered, TargetLost
from edge_lra.transport.qemu import Qemu
from edge_lra.transport.session import Progress
from edge_lra.transport.ssh import Ssh

TRANSPORTS: dict[str, type[Any]] = {"local": Local, "ssh": Ssh, "adb": Adb, "qemu": Qemu}
BEGINNINGS: dict[str, type[Any]] = {"ssh://": Ssh, "adb:": Adb}  # of a --target

__all__ = [
    "TRANSPORTS",
    "Adb",
    "Host",
    "Local",
    "NotAnswered",
    "Progress",
    "Qemu",
    "Ssh",
    "TargetLost",
    "Transport",
    "open_target",
    "require_arch",
]


def open_target(target: str, keep: bool = False, progress: Progress | None = None) -> Transport:
    """Return the way to what `--target` names; nothing is contacted yet.

    Args:
        target: ssh://[user@]host[:port] or adb:SERIAL.
        keep: whether what was brought stays there.
        progress: told what is being sent, the bytes so far and in all.

    Raises:
        EdgeError: the target has another form.
    """
    for beginning, transport in BEGINNINGS.items():
        if target.startswith(beginning):
            found: Transport = transport(target, keep, progress)
            return found
    raise bad_target(target)
