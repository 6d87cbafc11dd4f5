"""The error of one product by source: its weight, its activations, its kernel's sums."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_lra.attribution.rounding import Rounding, Sample
from edge_lra.attribution.saturation import kernel_loss, pair_loss
from edge_lra.attribution.sites import Site, Weight
from edge_lra.products.write import Product

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Errors:
    """Relative L2 errors of a product.

    Attributes:
        weights: with the weight alone rounded.
        activations: with the activations alone rounded.
        both: with both, computed exactly.
        saturation: what this processor's kernel loses; None for blocks, whose kernels round as
            they like.
        saturation_avx2: what 16-bit sums of pairs lose.
    """

    weights: float
    activations: float
    both: float
    saturation: float | None = None
    saturation_avx2: float | None = None


def product_errors(sample: Sample, exact: Array, rounded: Array, rounding: Rounding) -> Errors:
    """Take apart the error of x W^T.

    With dx and dW for what rounding changes, x dW^T comes from the weights, dx W^T from the
    activations, and with dx dW^T they are the whole: differences are small, so float32 will do.

    Args:
        sample: x.
        exact: W (out, in).
        rounded: W as stored.
        rounding: of x.
    """
    x, weight = sample.rows, exact.astype(np.float32)
    change = (rounded - exact).astype(np.float32)
    moved = rounding(sample).values - x
    of_weights, of_activations = x @ change.T, moved @ weight.T
    both = of_weights + of_activations + moved @ change.T
    product = x @ weight.T
    return Errors(*(relative(part, product) for part in (of_weights, of_activations, both)))


def site_errors(
    site: Site, weight: Weight, sample: Sample, product: Product | None, bundle: Path
) -> Errors:
    """Return the errors of one site on a sample of what it reads.

    Args:
        site: of the bundle.
        weight: the site's.
        sample: of the value it reads.
        product: the same one for a kernel to run; None where the weight is in blocks.
        bundle: the bundle's folder.
    """
    errors = product_errors(sample, weight.exact, weight.rounded, site.rounding)
    _, integers, step = site.rounding(sample)
    if product is None or integers is None or step is None:
        return errors
    exact = sample.rows @ weight.exact.astype(np.float32).T
    worth = step * weight.step
    own = kernel_loss(bundle, product, integers, weight.integers)
    avx2 = pair_loss(integers, weight.integers)
    return replace(
        errors,
        saturation=relative(own * worth, exact),
        saturation_avx2=relative(avx2 * worth, exact),
    )


def relative(error: Array, exact: Array) -> float:
    """Return the L2 norm of an error over that of what it is an error of."""
    return float(np.linalg.norm(error) / max(float(np.linalg.norm(exact)), 1e-30))
