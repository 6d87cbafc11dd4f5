"""Which adapter of a factored bundle is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_lra.errors import EdgeError


def pick_adapter(manifest: Mapping[str, Any], name: str | None) -> str | None:
    """Return the named adapter, else the default, else the first: none may mean no head.

    Raises:
        EdgeError: the bundle has no such adapter.
    """
    known = list(manifest.get("adapters") or {}) if manifest.get("adapter_inputs") else []
    if name is not None and name not in known:
        raise EdgeError(
            f"adapter: found {name!r}, expected one of: {', '.join(known) or 'none'}"
            + ("" if known else f" (the bundle is {manifest.get('mode')})")
        )
    default: str | None = manifest.get("default_adapter") if known else None
    return name or default or (known[0] if known else None)
