"""The two orders of a rotary head's rows: halves (Hugging Face) and pairs (Meta).

Hugging Face rotates row i of a head with row i + d/2, Meta row 2i with row 2i + 1.
"""

from __future__ import annotations

from edge_lra.errors import EdgeError
from edge_lra.tensor_files import Array


def to_halves(values: Array, heads: int) -> Array:
    """Return rows in Hugging Face's order from Meta's.

    Args:
        values: (heads * d, ..), rows of queries or keys; an adapter's up factor, say.
        heads: how many there are.
    """
    size = len(values) // heads
    shape = (heads, size // 2, 2, *values.shape[1:])
    return values.reshape(shape).swapaxes(1, 2).reshape(values.shape)


def to_pairs(values: Array, heads: int) -> Array:
    """Return rows in Meta's order from Hugging Face's (llama.cpp's `LlamaModel.permute`)."""
    size = len(values) // heads
    shape = (heads, 2, size // 2, *values.shape[1:])
    return values.reshape(shape).swapaxes(1, 2).reshape(values.shape)


def check_rows(rows: int, heads: int, where: str) -> None:
    """Refuse rows that are no whole heads of an even size.

    Raises:
        EdgeError: names the site.
    """
    if rows % (2 * heads):
        raise EdgeError(
            f"{where}: found {rows} rows, expected an even number for each of {heads} heads; "
            "is this adapter for another base?"
        )
