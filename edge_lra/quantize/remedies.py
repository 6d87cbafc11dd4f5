"""What makes up for the error of integers, or takes less time: each can be left out by its name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from edge_lra.errors import EdgeError


@dataclass(frozen=True)
class Remedies:
    """What an encoder's graph does beyond plain rounding; docs/accuracy.md has each one's figures.

    Attributes:
        smoothing: channels of norms that reach far are divided, and the weights multiplied.
        centring: the middle of each channel's range is taken off before rounding.
        outliers: the feed-forward activations that reach farthest stay in float32.
        static_scales: activations are rounded by the ranges found in text, not by each batch's.
        gptq: weights are rounded for the least error of their outputs.
        tanh_gelu: the tanh form of Gelu, where what reads it is rounded to 8 bits.
    """

    smoothing: bool = True
    centring: bool = True
    outliers: bool = True
    static_scales: bool = True
    gptq: bool = True
    tanh_gelu: bool = True


REMEDIES = tuple(field.name.replace("_", "-") for field in fields(Remedies))


def remedies_without(names: Iterable[str]) -> Remedies:
    """Return all remedies but those named.

    Raises:
        EdgeError: a name is none of `REMEDIES`.
    """
    for name in names:
        if name not in REMEDIES:
            raise EdgeError(f"without: found {name!r}, expected one of {', '.join(REMEDIES)}")
    return Remedies(**{name.replace("-", "_"): False for name in names})
