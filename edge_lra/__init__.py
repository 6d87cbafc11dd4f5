"""Export low-rank adapted models to int8 ONNX bundles, run them and measure them."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_lra.pipeline import export
    from edge_lra.profile import measure
    from edge_lra.runner import Generator, Runner

__version__ = "0.1.0"
# onnxruntime 1.32 writes a device id and a database into the user's cache when it is imported,
# before its own switch can be reached. Who wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
__all__ = ["Generator", "Runner", "__version__", "export", "measure"]

_HOMES = {
    "Generator": "edge_lra.runner",
    "Runner": "edge_lra.runner",
    "export": "edge_lra.pipeline",
    "measure": "edge_lra.profile",
}


def __getattr__(name: str) -> Any:
    """Import on first use: a device that only runs bundles has no torch to load."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
