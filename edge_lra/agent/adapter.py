"""Which adapter of a factored bundle is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_lra.errors import EdgeError


def pick_adapter(manifest: Mapping[str, Any], name: str | None) -> str | None:
    """Return the named adapter, else the default, else the first: none may mean no head.

    A bundle whose weights hold its adapter has none to pick: beside a factored one, it runs as it
    is.

    Raises:
        EdgeError: the bundle has adapters, and not this one.
    """
    known = known_adapters(manifest)
    if not known:
        return None
    if name is not None and name not in known:
        raise EdgeError(f"adapter: found {name!r}, expected one of: {', '.join(known)}")
    default: str | None = manifest.get("default_adapter")
    return name or default or known[0]


def known_adapters(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the adapters that a factored bundle can be run with."""
    return tuple(manifest.get("adapters") or ()) if manifest.get("adapter_inputs") else ()
