"""What a transport asks the agent for."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def request_of(bundle: Path, what: str = "measure", **others: Any) -> dict[str, Any]:
    """Return a request for a few runs of one bundle."""
    return {
        "what": what,
        "bundles": [str(bundle)],
        "shape": [1, 8],
        "threads": 1,
        "adapter": None,
        "runs": 3,
        "budget_s": 1.0,
        "warmup": 1,
        "sweep": [1, 2],
        **others,
    }
