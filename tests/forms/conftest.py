"""A small encoder whose linears decide its output, as a trained one's do."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

STRONGER = 8


@pytest.fixture
def strong(tiny: Path) -> Path:
    """Return the tiny project, the weights of its layers' linears larger."""
    file = tiny / "model/model.safetensors"
    tensors = load_file(file)
    linears = [n for n, v in tensors.items() if "encoder.layer" in n and v.ndim == 2]
    stronger = {name: STRONGER * tensors[name] for name in linears}
    save_file({**tensors, **stronger}, file, {"format": "pt"})
    return tiny
