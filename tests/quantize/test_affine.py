"""Blocks with zero points: what they hold exactly, and what rounding by inputs leaves."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from edge_lra.quantize.affine import AffineBlocks, block_ranges, round_affine
from edge_lra.quantize.blockwise import quantize_blocks
from edge_lra.quantize.compensate import Coupling, couple, output_error


def values(width: int, count: int = 2000) -> np.ndarray:
    """Return inputs (count, width) that hang together, some far from 0."""
    random = np.random.default_rng(0)
    mixed = random.normal(size=(count, width // 4)) @ random.normal(size=(width // 4, width))
    return mixed + 0.3 * random.normal(size=(count, width)) + random.normal(size=width)


def skewed(rows: int, width: int) -> np.ndarray:
    """Return a weight whose blocks reach farther to one side than to the other."""
    return np.random.default_rng(1).gamma(2.0, size=(rows, width)) - 0.5


def coupling_of(width: int) -> Coupling:
    x = values(width)
    return couple(x.T @ x / len(x))


@pytest.mark.parametrize("width", [32, 96, 80])
def test_a_weight_of_sixteen_steps_comes_back_as_it_is(width: int) -> None:
    random = np.random.default_rng(0)
    blocks = -(-width // 32)
    integers = random.integers(0, 16, (5, blocks, 32)).astype(float)
    integers[..., 0], integers[..., 1] = 0, 15
    zero = random.integers(0, 16, (5, blocks, 1))
    weight = (0.25 * (integers - zero)).reshape(5, -1)[:, :width]
    assert np.array_equal(round_affine(weight, None).weight(width), weight)


def test_zero_points_lose_less_than_symmetric_blocks_do() -> None:
    weight = skewed(64, 96)
    plain = quantize_blocks(weight, 4).weight(4, 96) - weight
    offset = round_affine(weight, None).weight(96) - weight
    assert (offset**2).sum() < 0.5 * (plain**2).sum()


def test_rounding_by_the_inputs_lowers_the_error_of_the_outputs() -> None:
    weight, coupling = skewed(64, 96), coupling_of(96)
    plain, compensated = (
        output_error(weight, round_affine(weight, way).weight(96), coupling.moment).lost
        for way in (None, coupling)
    )
    assert compensated < 0.5 * plain


def test_integers_do_not_depend_on_threads_or_on_chunks() -> None:
    weight = skewed(48, 96)
    found: list[AffineBlocks] = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(round_affine(weight, coupling_of(96)))
    coupling = coupling_of(96)
    parts = [round_affine(weight[start : start + 16], coupling) for start in (0, 16, 32)]
    found.append(AffineBlocks(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True))))
    for other in found[1:]:
        for expected, got in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_zeros_are_exact_in_blocks_of_one_sign() -> None:
    weight = np.abs(skewed(4, 64)) + 1.0
    weight[:, 3] = 0.0
    span = block_ranges(weight, np.ones(64))
    assert (span.zero == 0).all()
    assert (round_affine(weight, None).weight(64)[:, 3] == 0).all()
