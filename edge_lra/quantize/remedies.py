"""What makes up for the error of integers, or takes less time: each by its name, on or off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from edge_lra.errors import EdgeError


@dataclass(frozen=True)
class Remedies:
    """What a graph does beyond plain rounding; docs/accuracy.md has each one's figures.

    A decoder has those of `DECODER_REMEDIES`.

    Attributes:
        smoothing: channels of norms that reach far are divided, and the weights multiplied.
        centring: the middle of each channel's range is taken off before rounding.
        outliers: the feed-forward activations that reach farthest stay in float32.
        static_scales: activations are rounded by the ranges found in text, not by each batch's.
        gptq: weights are rounded for the least error of their outputs.
        tanh_gelu: the tanh form of Gelu, in an encoder of int8.
        mixed_bits: linears of int4 keep 8 bits where text shows that a byte gains most by it.
        refit: factored adapters are fitted to the rounded base. Off unless asked for: it ties an
            adapter's file to the base, and gains little where weights are rounded by GPTQ.
    """

    smoothing: bool = True
    centring: bool = True
    outliers: bool = True
    static_scales: bool = True
    gptq: bool = True
    tanh_gelu: bool = True
    mixed_bits: bool = True
    refit: bool = False


def _names(usual: bool) -> tuple[str, ...]:
    return tuple(
        field.name.replace("_", "-") for field in fields(Remedies) if field.default is usual
    )


REMEDIES = _names(usual=True)  # that can be left out
OPTIONAL = _names(usual=False)  # that can be asked for
DECODER_REMEDIES = ("gptq", "mixed-bits")  # of these, what a decoder in int4 can do without


def choose_remedies(without: Sequence[str] = (), with_: Sequence[str] = ()) -> Remedies:
    """Return the usual remedies, less those of `without` and with those of `with_`.

    Raises:
        EdgeError: a name to leave out is none of `REMEDIES`, or one to add none of `OPTIONAL`.
    """
    chosen: dict[str, bool] = {}
    for where, names, known in (("without", without, REMEDIES), ("with", with_, OPTIONAL)):
        for name in names:
            if name not in known:
                raise EdgeError(f"{where}: found {name!r}, expected one of {', '.join(known)}")
            chosen[name.replace("-", "_")] = known is OPTIONAL
    return Remedies(**chosen)
