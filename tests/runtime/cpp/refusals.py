"""How an open is refused, here and by the Python runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_lra import Runner
from edge_lra.errors import EdgeError
from tests.runtime.cpp.abi import Bundle, Refused


def refusal(folder: Path, **options: Any) -> Refused:
    """Return how an open is refused."""
    with pytest.raises(Refused) as raised:
        Bundle(folder, **options)
    assert "\n" not in raised.value.line
    return raised.value


def python_says(folder: Path) -> str:
    with pytest.raises(EdgeError) as raised:
        Runner.load(folder)
    return str(raised.value)
