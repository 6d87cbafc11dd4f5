"""Keep single large channels from coarsening the int8 steps of all others."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# MiniLM, mean 1 - cosine of 320 texts' mean-pooled hidden states with float, divided by these
# powers of the extremes, with weights by GPTQ: .6 .00052, .7 .00050, .75 .00045, .8 .00048, .9
# .00049. Rounded plainly, stronger ones cost more in the weights than they gain.
STRENGTH, COMPENSATED = 0.6, 0.75
CENTRES = 2**8  # a unit: a shift's coarseness
ACTIVATIONS, WEIGHTS = 0.3, 0.3  # strengths in decoders
# Of these where weights are compensated. SmolLM2-135M, symmetric int4, mean KL: 0 .098, .5 .095, 1
# .106.
COMPENSATED_SHARE = 0.5
OUTLIERS = 32
STEPS = 8  # an octave: a divisor's coarseness, beyond what CPUs' roundings differ by


def norm_shift(low: Array, high: Array) -> Array:
    """Return the middle of each channel's range in coarse steps, (hidden,) float64.

    Taken off before rounding, it leaves the integers to what varies (Outlier Suppression+, Wei et
    al. 2023, eq. 3). Biases of the linears that read the norm take it in again.
    """
    return np.asarray(np.round((low + high) / 2 * CENTRES) / CENTRES)


def norm_divisor(extreme: Array, strength: float = STRENGTH) -> Array:
    """Return what to divide each channel of a layer norm by, (hidden,) float64.

    SmoothQuant's rule (Xiao et al. 2022, eq. 4) without the weights' part, around a geometric
    mean of about 1. The divisor moves into the columns of the weights that read the norm.

    Args:
        extreme: (hidden,) each channel's largest magnitude.
        strength: the power.
    """
    floor = 1e-3 * max(float(extreme.max(initial=0.0)), 1e-12)
    octaves = np.log2(np.maximum(extreme, floor))
    return _stepped(strength * (octaves - octaves.mean()))


def coarse(value: float) -> float:
    """Return a magnitude in steps that CPUs' roundings do not cross."""
    return float(_stepped(np.log2(max(value, 1e-12))))


def _stepped(exponent: Array) -> Array:
    return np.asarray(2.0 ** (np.round(exponent * STEPS) / STEPS), np.float64)


def reader_divisor(extreme: Array, weight: Array, share: float = 1.0) -> Array:
    """Return what to divide each channel of a value by before linears read it, (in,) float64.

    SmoothQuant's rule with both parts, around a geometric mean of 1. SmolLM2-135M, mean KL of the
    int8 scheme: .0051 without, .0042 with these strengths, .0049 with .4 and .2, .0056 with .5 and
    .5, which leave more to the weights than one scale a row takes.

    Args:
        extreme: (in,) each channel's largest magnitude.
        weight: (in,) the largest magnitude of the weights that read it.
        share: of the strengths.
    """
    octaves = np.zeros(len(extreme))
    for strength, values in ((ACTIVATIONS * share, extreme), (-WEIGHTS * share, weight)):
        floor = 1e-3 * max(float(values.max(initial=0.0)), 1e-12)
        octaves += strength * np.log2(np.maximum(values, floor))
    return _stepped(octaves - octaves.mean())


def outlier_channels(extreme: Array) -> Array:
    """Return the feed-forward channels that reach highest, ascending, (OUTLIERS,) int64.

    One channel of an activation can be five times all others (24.7 against 6.0 in MiniLM's first
    layer), and int8 would give the others a fifth of the steps.

    Args:
        extreme: (inner,) each channel's largest magnitude after the activation.
    """
    count = min(OUTLIERS, len(extreme))
    return np.sort(np.argsort(-extreme, kind="stable")[:count])
