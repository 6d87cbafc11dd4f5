"""One number of a file of tensors, whatever its type: kohya saves an alpha as an integer too."""

from __future__ import annotations

import math

import numpy as np

from edge_lra.errors import EdgeError
from edge_lra.tensor_files import FLOATS, SafetensorsFile, TensorFile


def read_number(file: TensorFile, key: str) -> float:
    """Return a tensor of one element as a number other than 0.

    Raises:
        EdgeError: it has more elements, or is 0, NaN or Inf.
    """
    info = file.tensors[key]
    value = math.nan
    if math.prod(info.shape) == 1:
        value = _value(file, key)
    if not math.isfinite(value) or not value:
        found = f"{info.shape}" if math.prod(info.shape) != 1 else f"{value}"
        raise EdgeError(
            f"{file.path}: {key}: found {found}, expected one number other than 0; "
            "save the adapter again"
        )
    return value


def _value(file: TensorFile, key: str) -> float:
    if not isinstance(file, SafetensorsFile) or file.tensors[key].dtype in FLOATS:
        return float(file.read(key, 0, 1).reshape(-1)[0])
    from safetensors import safe_open

    with safe_open(file.path, "np") as opened:
        return float(np.asarray(opened.get_tensor(key)).reshape(-1)[0])
