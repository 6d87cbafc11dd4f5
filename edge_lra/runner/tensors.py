"""Tensors of a safetensors file, its header held to what every runner refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from edge_lra.inside import is_too_deep, unique

PREFIX = 8  # bytes of the header's length
LARGEST = 16 << 20  # bytes of a header


def read_tensors(content: bytes) -> dict[str, np.ndarray]:
    """Return a file's tensors by name.

    The safetensors package checks places and shapes. It takes larger and deeper headers than
    runners in other languages do, and the last of two tensors of one name.

    Raises:
        SafetensorError: the bytes are no such file.
    """
    length = int.from_bytes(content[:PREFIX], "little")
    if length > LARGEST:
        raise SafetensorError(f"found a header of {length} bytes, expected at most {LARGEST}")
    try:
        header: Any = json.loads(
            content[PREFIX : PREFIX + length].decode(), object_pairs_hook=unique
        )
    except (ValueError, RecursionError) as error:
        raise SafetensorError(f"found no JSON header ({error})") from None
    if is_too_deep(header):
        raise SafetensorError("found a header nested too deep")
    try:
        tensors: dict[str, np.ndarray] = load(content)
    except KeyError as error:  # a type that numpy does not have
        raise SafetensorError(f"found the type {error}, expected numpy's") from None
    return tensors
