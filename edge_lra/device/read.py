"""Read a device's TOML, checked key by key."""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from edge_lra.device.machine import ARCHES
from edge_lra.device.model import Cluster, Device, Figure
from edge_lra.errors import EdgeError

# The keys of transport.TRANSPORTS; its classes need not be loaded to read a file.
TRANSPORTS = ("local", "ssh", "adb", "qemu")
Reader = Callable[[str, Any], Any]


def read_document(path: Path) -> dict[str, Any]:
    """Return a file's values.

    Raises:
        EdgeError: it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EdgeError(f"{path}: {error.strerror}, expected a device's TOML") from None
    except (ValueError, RecursionError) as error:
        raise EdgeError(f"{path}: found {error}, expected TOML in UTF-8") from None


def parse_device(
    path: Path, document: Mapping[str, Any], asked_later: tuple[str, ...] = ()
) -> Device:
    """Return the device that a file's values describe; it is named like the file.

    Args:
        path: the file, for its name and for messages.
        document: its values.
        asked_later: required keys that may be missing.

    Raises:
        EdgeError: names the file and the key, what was found and what was expected.
    """
    needed = tuple(key for key in REQUIRED if key not in asked_later)
    values = _table(f"{path}: ", document, KEYS, needed)
    memory = values.pop("memory", {})
    device = Device(
        name=path.stem,
        clusters=values.pop("cluster", ()),
        ram_mib=values.pop("ram_mib", None),
        theoretical_gb_s=memory.get("theoretical_gb_s"),
        measured_gb_s=memory.get("measured_gb_s"),
        qemu_cpu=values.pop("qemu_cpu", None),
        sources=values.pop("sources", {}),
        **values,
    )
    if "qemu" in device.transports and device.qemu_cpu is None:
        raise EdgeError(f"{path}: found transport 'qemu' without qemu_cpu, expected a core's name")
    theory, measured = device.theoretical_gb_s, device.measured_gb_s
    if theory and measured and measured.value > theory.value:
        raise EdgeError(
            f"{path}: memory.measured_gb_s: found {measured.value:g}, expected at most the "
            f"theoretical {theory.value:g}"
        )
    return device


@cache
def known_schemes() -> tuple[str, ...]:
    """Return the names of the schemes; their classes need the `export` extra, a schema does not."""
    file = Path(__file__).parents[1] / "schemas" / "manifest.json"
    names = json.loads(file.read_text(encoding="utf-8"))["properties"]["scheme"]["enum"]
    return tuple(names)


def _table(
    where: str, found: Any, readers: Mapping[str, Reader], required: tuple[str, ...]
) -> dict[str, Any]:
    if not isinstance(found, Mapping):
        raise EdgeError(f"{where.rstrip('.: ')}: found {found!r}, expected a table")
    for key in found:
        if key not in readers:
            (close,) = difflib.get_close_matches(key, readers, n=1, cutoff=0)
            raise EdgeError(
                f"{where}found key {key!r}, expected {close!r}, or another of {', '.join(readers)}"
            )
    for key in required:
        if key not in found:
            raise EdgeError(f"{where}found no {key!r}, expected it")
    return {key: readers[key](f"{where}{key}", value) for key, value in found.items()}


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise EdgeError(f"{where}: found {value!r}, expected a text")
    return value


def _texts(where: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise EdgeError(f"{where}: found {value!r}, expected a list of texts")
    return tuple(_text(where, item) for item in value)


def _one_of(known: Callable[[], tuple[str, ...]]) -> Reader:
    def read(where: str, value: Any) -> str:
        if value not in known():
            raise EdgeError(f"{where}: found {value!r}, expected one of {', '.join(known())}")
        return str(value)

    return read


def _transports(where: str, value: Any) -> tuple[str, ...]:
    return tuple(_one_of(lambda: TRANSPORTS)(where, name) for name in _texts(where, value))


def _number(where: str, value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise EdgeError(f"{where}: found {value!r}, expected a number above 0")
    return float(value)


def _count(where: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise EdgeError(f"{where}: found {value!r}, expected a whole number of at least 1")
    return value


def _figure(where: str, value: Any) -> Figure:
    if not isinstance(value, Mapping):
        raise EdgeError(f"{where}: found {value!r}, expected {{ value = …, source = '…' }}")
    readers: dict[str, Reader] = {"value": _number, "source": _text}
    return Figure(**_table(f"{where}.", value, readers, tuple(readers)))


def _memory(where: str, value: Any) -> dict[str, Figure]:
    return _table(f"{where}.", value, {"theoretical_gb_s": _figure, "measured_gb_s": _figure}, ())


def _clusters(where: str, value: Any) -> tuple[Cluster, ...]:
    if not isinstance(value, list) or not value:
        raise EdgeError(f"{where}: found {value!r}, expected [[cluster]] with cores and clock_ghz")
    return tuple(
        Cluster(**_table(f"{where}[{place}].", item, CLUSTER, tuple(CLUSTER)))
        for place, item in enumerate(value)
    )


def _sources(where: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise EdgeError(f"{where}: found {value!r}, expected a table of texts")
    return {key: _text(f"{where}.{key}", text) for key, text in value.items()}


CLUSTER: dict[str, Reader] = {
    "core": _text,
    "cores": _count,
    "clock_ghz": _number,
    "features": _texts,
    "int8_macs_per_cycle": _figure,
    "fp32_macs_per_cycle": _figure,
}
KEYS: dict[str, Reader] = {
    "title": _text,
    "arch": _one_of(lambda: ARCHES),
    "system": _text,
    "ram_mib": _count,
    "transports": _transports,
    "qemu_cpu": _text,
    "providers": _texts,
    "scheme": _one_of(known_schemes),
    "scheme_reason": _text,
    "cluster": _clusters,
    "memory": _memory,
    "sources": _sources,
}
OPTIONAL = ("qemu_cpu", "memory", "sources")
REQUIRED = tuple(key for key in KEYS if key not in OPTIONAL)
