"""What else could be done at a site, and what it would give there."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from edge_lra.attribution.errors import product_errors
from edge_lra.attribution.rounding import ByBlock, Sample, by_block, by_row, by_tensor
from edge_lra.attribution.sites import Site, Weight
from edge_lra.quantize.blockwise import quantize_blocks
from edge_lra.quantize.pairsafe import quantize_pair_safe
from edge_lra.quantize.smooth import norm_divisor
from edge_lra.quantize.stored import BlockWeight


class Remedy(NamedTuple):
    """What a change of one site gives.

    Attributes:
        error: relative L2 error of its product, weights and activations rounded.
        extra_bytes: of the data file.
    """

    error: float
    extra_bytes: int


Attempt = Callable[[Site, Weight, Sample], Remedy | None]


def keep_float(site: Site, weight: Weight, sample: Sample) -> Remedy:
    """Keep the weight in float32: what is left is float32's own rounding."""
    return Remedy(0.0, 4 * weight.exact.size - site.nbytes)


def use_blocks(site: Site, weight: Weight, sample: Sample) -> Remedy | None:
    """Round both in blocks of 32 with 8 bits, as the scheme int8-weight-only does."""
    if isinstance(site.weight, BlockWeight) and site.weight.bits == 8:
        return None
    blocks = quantize_blocks(weight.exact, 8)
    rounded = blocks.weight(8, weight.exact.shape[1])
    errors = product_errors(sample, weight.exact, rounded, by_block)
    return Remedy(errors.both, blocks.packed.nbytes + blocks.scale.nbytes - site.nbytes)


def round_by_row(site: Site, weight: Weight, sample: Sample) -> Remedy | None:
    """Give each row of the activations a scale of its own; blocks have that already."""
    if isinstance(site.rounding, ByBlock):
        return None
    return Remedy(product_errors(sample, weight.exact, weight.rounded, by_row).both, 0)


def divide_channels(site: Site, weight: Weight, sample: Sample) -> Remedy | None:
    """Divide outlier channels of the activations and multiply the weights' columns by the same.

    SmoothQuant's candidates are values that are rounded as a whole and were not divided yet.
    """
    if site.divided or isinstance(site.rounding, ByBlock):
        return None
    divisor = norm_divisor(sample.reach)
    exact = weight.exact * divisor
    values, scale = quantize_pair_safe(exact)
    rounded = values * scale.astype(np.float64)[:, None]
    return Remedy(product_errors(sample.divided(divisor), exact, rounded, by_tensor).both, 0)


REMEDIES: dict[str, Attempt] = {
    "float32": keep_float,
    "8-bit blocks": use_blocks,
    "rounded by row": round_by_row,
    "divided channels": divide_channels,
}


def try_remedies(site: Site, weight: Weight, sample: Sample) -> dict[str, Remedy | None]:
    """Return what each remedy gives at a site; None where it does not apply."""
    return {name: attempt(site, weight, sample) for name, attempt in REMEDIES.items()}
