"""Find a device by its name or its file."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_lra.device.machine import find_clusters, normal_arch, this_arch, this_ram_mib, this_system
from edge_lra.device.model import Cluster, Device
from edge_lra.device.read import parse_device, read_document
from edge_lra.errors import EdgeError
from edge_lra.resources import data_folder

if TYPE_CHECKING:
    from edge_lra.transport.base import Host  # transports know devices too

HOST = "host"  # this machine, whatever it is
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
LIST = "edge-lra devices"
ASKED = ("ram_mib", "cluster")  # keys that this machine answers itself


def known_devices(folder: Path | None = None) -> dict[str, Path]:
    """Return the file of every device by name, sorted; `folder` holds the user's own.

    Raises:
        EdgeError: the folder is missing, or a file in it has no name for a device, or one that
            is taken.
    """
    found = {path.stem: path for path in data_folder("devices").glob("*.toml")}
    if folder is None:
        return dict(sorted(found.items()))
    if not folder.is_dir():
        raise EdgeError(f"devices: found no folder {folder}, expected one with a TOML a device")
    for path in folder.glob("*.toml"):
        if path.stem in found:
            raise EdgeError(
                f"{path}: found a device named {path.stem!r}, which edge-lra brings itself, "
                "expected another name; rename the file"
            )
        if not NAME.fullmatch(path.stem):
            raise EdgeError(
                f"{path}: found {path.stem!r}, expected a name of small letters, digits, '.', '_' "
                "and '-'; rename the file"
            )
        found[path.stem] = path
    return dict(sorted(found.items()))


def load_device(name_or_path: str | Path, folder: Path | None = None) -> Device:
    """Read a device; `host` is filled from the machine this runs on.

    Args:
        name_or_path: a known device's name, or a TOML file.
        folder: of the user's own devices, whose names are known too.

    Raises:
        EdgeError: it is unknown, or its file is wrong: names file, key, found and expected.
    """
    known = known_devices(folder)
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or set(text) & {"/", os.sep}:
        path = Path(text).expanduser()
        if not path.is_file():
            raise EdgeError(f"{path}: found no file, expected a device's TOML; {LIST} lists names")
    elif text in known:
        path = known[text]
    else:
        close = difflib.get_close_matches(text.lower(), known, n=3, cutoff=0.5)
        like = f" such as {', '.join(close)}" if close else ""
        raise EdgeError(
            f"device: found {text!r}, expected a known one{like}, or a .toml file; {LIST} lists "
            "the names"
        )
    document = _whole(path, known, ())
    if path == known[HOST]:
        return _this_machine(document, known)
    return parse_device(path, document)


def matches(device: Device, host: Host) -> bool:
    """Say whether a machine that was probed can be this device: whether it runs the same code.

    A device is `local` where it matches the machine this runs on.
    """
    return device.arch == normal_arch(host.arch)


def _whole(path: Path, known: Mapping[str, Path], seen: tuple[Path, ...]) -> dict[str, Any]:
    """Return a file's document over the one it is `like`; of tables only sources are joined."""
    document = read_document(path)
    base = document.pop("like", None)
    if base is None:
        return document
    if not isinstance(base, str) or base not in known or base == HOST:
        close = difflib.get_close_matches(str(base).lower(), known, n=1, cutoff=0)
        raise EdgeError(f"{path}: like: found {base!r}, expected a known device such as {close[0]}")
    if known[base].resolve() in (path.resolve(), *(other.resolve() for other in seen)):
        raise EdgeError(f"{path}: like: found {base!r}, which leads back here, expected another")
    under = _whole(known[base], known, (*seen, path))
    own, inherited = document.get("sources", {}), under.get("sources", {})
    if isinstance(own, dict) and isinstance(inherited, dict):
        document["sources"] = inherited | own
    return under | document


def _this_machine(document: dict[str, Any], known: Mapping[str, Path]) -> Device:
    arch, system = this_arch(), this_system()
    asked = document | {"arch": arch, "system": system}
    device = parse_device(known[HOST], asked, asked_later=ASKED)
    clusters = find_clusters(_known_cores(known))
    return replace(device, clusters=clusters, ram_mib=this_ram_mib())


def _known_cores(known: Mapping[str, Path]) -> dict[str, Cluster]:
    """Return a cluster of every core that a device file describes, by the core's name."""
    ours = [path for path in known.values() if path.parent == data_folder("devices")]
    found: dict[str, Cluster] = {}
    for path in ours:
        if path.stem != HOST and "like" not in read_document(path):
            device = parse_device(path, read_document(path))
            if device.arch != "wasm32":  # a browser's rates are not its processor's
                found |= {cluster.core: cluster for cluster in device.clusters}
    return found
