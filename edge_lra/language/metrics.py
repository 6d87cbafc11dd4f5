"""How far a language model's next-token distributions are from the float model's.

The figures are those of llama.cpp's `llama-perplexity --kl-divergence` (tools/perplexity), over
the same positions for both models: those that predict a token of the text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edge_lra.metrics import Array, log_softmax


@dataclass(frozen=True)
class Positions:
    """What is kept of positions once both models' logits are gone; one value a position.

    Attributes:
        loss: of the token that follows, by the float model; nats.
        bundle_loss: the same by the bundle.
        kl: KL(float || bundle) of the whole distribution; nats.
        same: whether both find the same token most likely.
        error: largest distance between two logits.
        square_error: mean of the squared distances.
        square: mean of the float logits' squares.
    """

    loss: Array
    bundle_loss: Array
    kl: Array
    same: Array
    error: Array
    square_error: Array
    square: Array


def compare_positions(expected: Array, found: Array, following: Array) -> Positions:
    """Compare logits (positions, vocabulary) where the next token is known.

    Args:
        expected: the float model's.
        found: the bundle's.
        following: (positions,) ids of the tokens that follow.
    """
    p, q = log_softmax(expected.astype(np.float64)), log_softmax(found.astype(np.float64))
    places = np.arange(len(following))
    distance = found.astype(np.float64) - expected
    return Positions(
        loss=-p[places, following],
        bundle_loss=-q[places, following],
        kl=(np.exp(p) * (p - q)).sum(-1),
        same=expected.argmax(-1) == found.argmax(-1),
        error=np.abs(distance).max(-1),
        square_error=np.mean(distance**2, -1),
        square=np.mean(expected.astype(np.float64) ** 2, -1),
    )


def join(parts: Iterable[Positions]) -> Positions:
    """Return all positions as one."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Positions(*(np.concatenate(column) for column in columns))


def summarize(positions: Positions) -> dict[str, float]:
    """Return the metrics of positions that were scored in short runs.

    Perplexity is exp of the mean loss; its ratio is the bundle's over the float model's
    ("Mean PPL(Q)/PPL(base)"); kl_mean, kl_p99 and kl_max are of KL(float || bundle); same_top is
    the share of positions with the same most likely token ("Same top p").
    """
    loss, own = float(positions.loss.mean()), float(positions.bundle_loss.mean())
    square_error = float(positions.square_error.mean())
    return {
        "perplexity": float(np.exp(own)),
        "perplexity_float": float(np.exp(loss)),
        "perplexity_ratio": float(np.exp(own - loss)),
        "kl_mean": float(positions.kl.mean()),
        "kl_p99": float(np.percentile(positions.kl, 99)),
        "kl_max": float(positions.kl.max()),
        "same_top": float(positions.same.mean()),
        "max_abs_error": float(positions.error.max()),
        "rms_error": square_error**0.5,
        "relative_l2": (square_error / max(float(positions.square.mean()), 1e-12)) ** 0.5,
        "tokens": len(positions.loss),
    }


def summarize_prefill(positions: Positions) -> dict[str, float]:
    """Return the metrics of the last positions of long runs: other kernels multiply there."""
    return {
        "prefill_kl_mean": float(positions.kl.mean()),
        "prefill_max_abs_error": float(positions.error.max()),
        "prefill_runs": len(positions.kl),
    }
