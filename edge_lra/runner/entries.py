"""The entries of a manifest that a runner takes for granted, held to what they must be.

The seal vouches for the bytes, not for whoever wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_lra.bundle import MANIFEST
from edge_lra.errors import EdgeError

DTYPES = frozenset(
    ["float32", "float64", "float16", "bool"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
Check = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= 0


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _map_of(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _record(**checks: Check) -> Check:
    return lambda value: (
        isinstance(value, dict) and all(check(value.get(name)) for name, check in checks.items())
    )


_NODES = _list_of(
    _record(
        name=_is_text, dtype=_is_text, shape=_list_of(lambda axis: _is_text(axis) or _is_size(axis))
    )
)
ENTRIES: Mapping[str, Check] = {
    "inputs": _NODES,
    "outputs": _NODES,
    "adapter_inputs": _or_none(_NODES),
    "adapters": _or_none(_map_of(_record(file=_is_text, base=_is_text))),
    "session_options": _or_none(_map_of(lambda value: isinstance(value, (str, int, float)))),
    "golden": _or_none(_record(adapters=_list_of(_or_none(_is_text)))),
    "products": _or_none(_list_of(_record(weight=_is_text, sha256=_is_text))),
    "prepacked": _or_none(_record(processor=_is_text, onnxruntime=_is_text)),
    "default_adapter": _or_none(_is_text),
    "min_onnxruntime": _or_none(_is_text),
    "max_length": _or_none(_is_size),
    "vocabulary_size": _or_none(_is_size),
    "base_fingerprint": _is_text,
}


def check_entries(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raise EdgeError where an entry is not what a runner reads, or is of an unknown type."""
    file = folder / MANIFEST
    odd = next((name for name, check in ENTRIES.items() if not check(manifest.get(name))), None)
    if odd is not None:
        raise EdgeError(f'{file}: found an ill-formed "{odd}"; export again')
    for name in ("inputs", "outputs", "adapter_inputs"):
        for node in manifest.get(name) or ():
            if node["dtype"] not in DTYPES:
                raise EdgeError(
                    f"{file}: {node['name']!r}: found dtype {node['dtype']!r}, expected one that "
                    "this runner knows"
                )
