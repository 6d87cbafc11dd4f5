"""How far a bundle's outputs are from the float model's, by kind of output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Limits by metric: the largest value allowed, or for names in AT_LEAST the smallest.
GATES = {"kl_mean": 0.01, "top1_agreement": 0.98, "cosine_min": 0.98, "relative_l2": 0.05}
# Of next tokens, where a mistake in the graph shows as nats and rounding as hundredths.
LANGUAGE_GATES = {
    "kl_mean": 0.05,
    "same_top": 0.85,
    "perplexity_ratio": 1.05,
    "prefill_kl_mean": 0.1,
}
# In points; held only where edge-lra.toml sets a limit: labelled text may be missing
# or too little to tell.
OPTIONAL_GATES = ("accuracy_drop",)
AT_LEAST = frozenset({"top1_agreement", "cosine_min", "same_top"})


@dataclass(frozen=True)
class Gate:
    """One metric held against its limit."""

    name: str
    value: float
    limit: float
    passed: bool

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def log_softmax(logits: Array) -> Array:
    """Return the logarithms of the probabilities of the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def common(expected: Array, found: Array) -> dict[str, float]:
    """Return the errors every output has: maximum, RMS and relative L2."""
    error = found - expected
    return {
        "max_abs_error": float(np.abs(error).max()),
        "rms_error": float(np.sqrt(np.mean(error**2))),
        "relative_l2": float(np.linalg.norm(error) / max(float(np.linalg.norm(expected)), 1e-12)),
    }


def distributions(expected: Array, found: Array) -> dict[str, float]:
    """Compare rows of logits as distributions.

    KL(float || bundle) a row in nats; top-1 agreement over the rows whose float margin exceeds
    twice the RMS logit error (nearer ones are ties), with both counts.

    Args:
        expected: (rows, classes) float logits.
        found: (rows, classes) logits of the bundle.
    """
    p, q = log_softmax(expected), log_softmax(found)
    kl = (np.exp(p) * (p - q)).sum(-1)
    top = np.sort(expected, axis=-1)
    noise = np.sqrt(np.mean((found - expected) ** 2))
    decisive = top[:, -1] - top[:, -2] > 2 * noise
    return _agreement(kl, expected.argmax(-1) == found.argmax(-1), decisive)


def _agreement(kl: Array, same: Array, decisive: Array) -> dict[str, float]:
    agreement = float(same[decisive].mean()) if decisive.any() else 0.0
    return {
        "kl_mean": float(kl.mean()),
        "kl_max": float(kl.max()),
        "top1_agreement": agreement,
        "decisive_rows": int(decisive.sum()),
        "rows": len(same),
    }


def independent_labels(expected: Array, found: Array) -> dict[str, float]:
    """Compare multi-label logits as one Bernoulli distribution each."""
    pairs = [np.stack([x.ravel(), np.zeros(x.size)], axis=-1) for x in (expected, found)]
    return distributions(pairs[0], pairs[1])


def cosines(rows: Sequence[tuple[Array, Array]]) -> dict[str, float]:
    """Return the cosine of each text's hidden states, flattened over its attended tokens.

    Args:
        rows: (expected, found) of each text, (tokens, hidden).
    """
    values = [
        float(np.vdot(a, b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))
        for a, b in rows
    ]
    return {"cosine_min": min(values), "cosine_mean": float(np.mean(values)), "rows": len(values)}


def gate(
    metrics: Mapping[str, float],
    names: Sequence[str],
    limits: Mapping[str, float],
    defaults: Mapping[str, float] = GATES,
) -> list[Gate]:
    """Hold the named metrics against their limits."""
    gates = []
    for name in names:
        value = float(metrics[name])
        limit = float(limits[name] if name in limits else defaults[name])
        passed = value >= limit if name in AT_LEAST else value <= limit
        gates.append(Gate(name, value, limit, bool(passed)))
    return gates


Compare = Callable[[Array, Array], dict[str, float]]
