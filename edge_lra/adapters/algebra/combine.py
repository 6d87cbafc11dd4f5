"""Combine adapters: exactly, or by methods that trade exactness for size or interference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_lra.adapters.algebra.svd import decompose, decompose_matrix
from edge_lra.adapters.kinds import LowRank
from edge_lra.adapters.saved import Array


@dataclass(frozen=True)
class Settings:
    """What a method needs beside the adapters.

    Attributes:
        rank: of the result, for the methods that truncate.
        density: share of a change's elements that ties and dare keep.
        seed: of dare's random choice.
    """

    rank: int
    density: float = 0.5
    seed: int = 0


Parts = Sequence[tuple[float, LowRank]]
Method = Callable[[Parts, Settings], LowRank]


def concatenate(parts: Parts, _: Settings | None = None) -> LowRank:
    """Return the exact weighted sum; the ranks add up."""
    down = np.concatenate([p.down for _, p in parts])
    up = np.concatenate([p.up.astype(np.float64) * p.scale * w for w, p in parts], axis=1)
    return LowRank(down, up.astype(np.float32), 1.0)


def truncated_sum(parts: Parts, settings: Settings) -> LowRank:
    """Return the best approximation of the exact sum at a rank."""
    return decompose(concatenate(parts)).truncate(settings.rank)


def linear(parts: Parts, _: Settings) -> LowRank:
    """Return PEFT's `linear`: the factors summed, each with the root of its weight and scale.

    The cross terms up_i down_j make the product another than the sum of the products.
    """
    ranks = {len(p.down) for _, p in parts}
    if len(ranks) > 1:
        raise ValueError(f"ranks {sorted(ranks)}, expected one for linear")
    roots = [np.sqrt(abs(w * p.scale)) for w, p in parts]
    signs = [np.sign(w * p.scale) for w, p in parts]
    down = sum(root * p.down.astype(np.float64) for root, (_, p) in zip(roots, parts, strict=True))
    up = sum(
        sign * root * p.up.astype(np.float64)
        for sign, root, (_, p) in zip(signs, roots, parts, strict=True)
    )
    return LowRank(np.asarray(down, np.float32), np.asarray(up, np.float32), 1.0)


def ties(parts: Parts, settings: Settings) -> LowRank:
    """Trim, elect signs by total, merge what agrees, truncate (TIES, Yadav et al. 2023, alg. 1)."""
    changes = np.stack([prune(change(p), settings.density) for _, p in parts])
    sign = np.sign(changes.sum(axis=0))
    sign = np.where(sign == 0, 1.0, sign)
    agrees = np.sign(changes) == sign
    weights = np.array([w for w, _ in parts])[:, None, None]
    count = np.maximum(agrees.sum(axis=0), 1)
    merged = (weights * changes * agrees).sum(axis=0) / count
    return decompose_matrix(merged).truncate(settings.rank)


def dare(parts: Parts, settings: Settings) -> LowRank:
    """Drop elements at random, rescale the rest, sum, truncate (DARE, Yu et al. 2023, eq. 3-4)."""
    random = np.random.default_rng(settings.seed)
    total: Array | float = 0.0
    for weight, part in parts:
        delta = change(part)
        kept = random.random(delta.shape) < settings.density
        total = total + weight * delta * kept / settings.density
    return decompose_matrix(np.asarray(total)).truncate(settings.rank)


def change(update: LowRank) -> Array:
    """Return scale * up @ down, (out, in) float64."""
    product: Array = update.scale * (update.up.astype(np.float64) @ update.down.astype(np.float64))
    return product


def prune(matrix: Array, density: float) -> Array:
    """Return the matrix with its smallest elements at 0, a share `density` of them kept."""
    count = int(density * matrix.size)
    if count >= matrix.size:
        return matrix
    flat = np.zeros(matrix.size)
    largest = np.argpartition(-np.abs(matrix), count, axis=None)[:count]
    flat[largest] = matrix.ravel()[largest]
    return flat.reshape(matrix.shape)


METHODS: dict[str, Method] = {
    "cat": concatenate,
    "svd": truncated_sum,
    "ties": ties,
    "dare": dare,
    "linear": linear,
}


def combine(
    adapters: Sequence[tuple[float, Mapping[str, LowRank]]], method: str, settings: Settings
) -> tuple[dict[str, LowRank], dict[str, float]]:
    """Combine adapters site by site; a site that one lacks counts as 0 in it.

    Returns:
        The factors by module, and each site's relative distance from the exact sum.
    """
    modules = sorted({module for _, sites in adapters for module in sites})
    found, errors = {}, {}
    for module in modules:
        parts = [(weight, sites[module]) for weight, sites in adapters if module in sites]
        found[module] = METHODS[method](parts, settings)
        errors[module] = distance(found[module], concatenate(parts))
    return found, errors


def distance(found: LowRank, exact: LowRank) -> float:
    """Return ||found - exact|| / ||exact|| of two products, by their factors."""
    if found.up.shape == exact.up.shape and np.array_equal(found.up, exact.up):
        return 0.0
    difference = concatenate([(1.0, found), (-1.0, exact)])
    norms = [np.sqrt(decompose(update).energy) for update in (difference, exact)]
    return float(norms[0] / norms[1]) if norms[1] else float(norms[0] > 0)
