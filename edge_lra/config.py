"""The settings of a project, `edge-lra.toml`, checked key by key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError
from edge_lra.metrics import GATES, LANGUAGE_GATES, OPTIONAL_GATES
from edge_lra.profile.limits import LIMITS

CONFIG = "edge-lra.toml"
FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


@dataclass(frozen=True)
class AdapterEntry:
    """An adapter of the project; without a name it takes its folder's."""

    path: str
    name: str | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Config:
    """What `edge-lra.toml` says; `folder` is where it lies, `devices` holds devices of its own."""

    folder: Path
    name: str | None = None
    model: str | None = None
    task: str | None = None
    labels: tuple[str, ...] | None = None
    quantize: str | None = None
    keep_float: tuple[str, ...] = ()
    plan: Path | None = None
    without: tuple[str, ...] = ()
    with_: tuple[str, ...] = ()
    extra_rank: int = 0
    device: str | None = None
    devices: Path | None = None
    data: Path | None = None
    adapters: tuple[AdapterEntry, ...] = ()
    verify_tokens: int | None = None
    gates: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)


def load_config(folder: Path) -> Config:
    """Read a folder's `edge-lra.toml`; a folder without one has default settings.

    Raises:
        EdgeError: the file is not TOML, has an unknown key or a value of another kind.
    """
    file = folder / CONFIG
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Config(folder)
    except (ValueError, RecursionError) as error:
        raise EdgeError(f"{file}: found {error}, expected TOML in UTF-8") from None
    _check_keys(str(file), values, KEYS)
    read = {key: KEYS[key](f"{file}: {key}", value, folder) for key, value in values.items()}
    adapters, with_ = read.pop("adapter", ()), read.pop("with", ())
    return Config(folder, adapters=adapters, with_=with_, **read)


def resolve_place(value: str, folder: Path) -> str:
    """Return a path below `folder` made whole; other names of a model stay as they are."""
    path = folder / Path(value).expanduser()
    if value.startswith("pypi:"):
        return value
    named = HUB_ID.fullmatch(value) or FACTORY.fullmatch(value)
    return value if named and not path.exists() else str(path)


def _check_keys(where: str, found: Mapping[str, Any], known: Collection[str]) -> None:
    for key in found:
        if key not in known:
            raise EdgeError(f"{where}: found key {key!r}, expected one of {', '.join(known)}")


def _text(where: str, value: Any, folder: Path) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise EdgeError(f"{where}: found {value!r}, expected a text")
    return value


def _name(where: str, value: Any, folder: Path) -> str:
    """Return a name that can be a folder's."""
    name = _text(where, value, folder)
    if set(name) & set("/\\") or name in (".", ".."):
        raise EdgeError(f"{where}: found {name!r}, expected a name, no path; use --out for that")
    return name


def _place(where: str, value: Any, folder: Path) -> str:
    return resolve_place(_text(where, value, folder), folder)


def _file(where: str, value: Any, folder: Path) -> Path:
    return folder / Path(_text(where, value, folder)).expanduser()


def _device(where: str, value: Any, folder: Path) -> str:
    """Return a device's name, or its file below the folder."""
    text = _text(where, value, folder)
    return str(folder / Path(text).expanduser()) if text.endswith(".toml") else text


def _texts(where: str, value: Any, folder: Path) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise EdgeError(f"{where}: found {value!r}, expected a list of texts")
    return tuple(_text(where, item, folder) for item in value)


def _adapters(where: str, value: Any, folder: Path) -> tuple[AdapterEntry, ...]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise EdgeError(f"{where}: found {value!r}, expected [[adapter]] with name and path")
    entries = []
    for item in value:
        _check_keys(where, item, {"name": _text, "path": _adapter_path, "weight": _weight})
        if "path" not in item:
            raise EdgeError(f"{where}: found no path, expected the adapter's folder")
        name = _text(f"{where}.name", item["name"], folder) if "name" in item else None
        path = _adapter_path(f"{where}.path", item["path"], folder)
        weight = _weight(f"{where}.weight", item.get("weight", 1), folder)
        entries.append(AdapterEntry(path, name, weight))
    return tuple(entries)


def _weight(where: str, value: Any, folder: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EdgeError(f"{where}: found {value!r}, expected a number")
    return float(value)


def _count(where: str, value: Any, folder: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise EdgeError(f"{where}: found {value!r}, expected a whole number of at least 1")
    return value


def _adapter_path(where: str, value: Any, folder: Path) -> str:
    # A single word is a folder: adapters lie beside the file, and every hub id has an owner.
    text = _text(where, value, folder)
    return resolve_place(text, folder) if "/" in text or ":" in text else str(folder / text)


def _numbers(known: Collection[str]) -> Callable[[str, Any, Path], dict[str, float]]:
    def read(where: str, value: Any, folder: Path) -> dict[str, float]:
        if not isinstance(value, dict):
            raise EdgeError(f"{where}: found {value!r}, expected a table of numbers")
        _check_keys(where, value, known)
        for key, number in value.items():
            if isinstance(number, bool) or not isinstance(number, int | float) or number != number:
                raise EdgeError(f"{where}.{key}: found {number!r}, expected a number")
        return {key: float(number) for key, number in value.items()}

    return read


KEYS: dict[str, Callable[[str, Any, Path], Any]] = {
    "name": _name,
    "model": _place,
    "task": _text,
    "labels": _texts,
    "quantize": _text,
    "keep_float": _texts,
    "plan": _file,
    "without": _texts,
    "with": _texts,
    "extra_rank": _count,
    "device": _device,
    "devices": _file,
    "data": _file,
    "verify_tokens": _count,
    "adapter": _adapters,
    "gates": _numbers((*GATES, *OPTIONAL_GATES, *LANGUAGE_GATES)),
    "limits": _numbers(LIMITS),
}
