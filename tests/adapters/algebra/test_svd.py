from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from edge_lra.adapters.algebra.svd import (
    decompose,
    decompose_large,
    decompose_matrix,
    squared_norm,
    tall_qr,
)
from edge_lra.adapters.algebra.weighting import roots
from edge_lra.adapters.kinds import LowRank


def factors(seed: int = 0, rank: int = 12, out: int = 40, width: int = 30) -> LowRank:
    random = np.random.default_rng(seed)
    down, up = random.normal(size=(rank, width)), random.normal(size=(out, rank))
    return LowRank(down, up * np.linspace(2, 0.05, rank), 0.7)


def product(update: LowRank) -> np.ndarray:
    return update.merge(np.zeros((len(update.up), update.down.shape[1])))


@pytest.mark.parametrize("rank", [1, 5, 12])
def test_factors_are_truncated_as_by_the_svd_of_their_product(rank: int) -> None:
    update = factors()
    full = product(update)
    left, values, right = np.linalg.svd(full)
    best = (left[:, :rank] * values[:rank]) @ right[:rank]
    found = decompose(update)
    kept = product(found.truncate(rank))
    assert np.linalg.norm(kept - best) <= 1e-5 * np.linalg.norm(best)
    np.testing.assert_allclose(found.values, values[:12], rtol=1e-10)
    error = np.linalg.norm(full - kept) / np.linalg.norm(full)
    assert found.error(rank) == pytest.approx(error, abs=1e-6)


def test_the_rank_for_an_energy_is_the_smallest_that_keeps_it() -> None:
    found = decompose(factors())
    rank = found.rank_for(0.9)
    assert found.kept_energy(rank) >= 0.9 > found.kept_energy(rank - 1)
    assert found.rank_for(1.0) == 12


def test_a_rank_larger_than_a_side_is_cut_to_it() -> None:
    update = factors(rank=12, out=5)
    assert decompose(update).truncate(12).up.shape == (5, 5)


def test_effective_rank_is_the_number_of_equal_values() -> None:
    assert decompose_matrix(np.eye(7)).effective_rank() == pytest.approx(7)
    assert decompose_matrix(np.diag([1.0, 0, 0])).effective_rank() == pytest.approx(1)


@pytest.mark.parametrize("full", [True, False])
def test_weighting_by_what_is_read_lowers_the_error_of_the_outputs(full: bool) -> None:
    update = factors()
    random = np.random.default_rng(1)
    inputs = random.normal(size=(500, 30)) * np.geomspace(8, 0.1, 30)
    if full:
        inputs = inputs @ random.normal(size=(30, 30))
    moment = inputs.T @ inputs if full else (inputs**2).sum(axis=0)
    plain, weighted = decompose(update), decompose(update, *roots(moment))
    wanted = inputs @ product(update).T

    def error(rank_3: LowRank) -> float:
        return float(np.linalg.norm(inputs @ product(rank_3).T - wanted) / np.linalg.norm(wanted))

    assert error(weighted.truncate(3)) < 0.8 * error(plain.truncate(3))
    if full:
        assert weighted.error(3) == pytest.approx(error(weighted.truncate(3)), abs=1e-5)


def test_a_matrix_in_chunks_gives_the_leading_part_of_its_svd() -> None:
    random = np.random.default_rng(2)
    noise = 0.01 * random.normal(size=(300, 200))
    matrix = (product(factors(3, 12, 300, 200)) + noise).astype(np.float32)

    def chunks() -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, 300, 77):
            yield start, matrix[start : start + 77]

    found = decompose_large(chunks, (300, 200), 8)
    exact = decompose_matrix(matrix)
    np.testing.assert_allclose(found.values, exact.values[:8], rtol=1e-4)
    best, kept = product(exact.truncate(8)), product(found.truncate(8))
    assert np.linalg.norm(kept - best) <= 2e-3 * np.linalg.norm(best)
    assert found.kept_energy(8) == pytest.approx(exact.kept_energy(8), abs=1e-5)


def test_a_norm_is_exact_where_a_float32_product_is_not() -> None:
    rows = np.random.default_rng(0).standard_normal((2048, 8192), np.float32)
    exact = float(sum((row.astype(np.float64) ** 2).sum() for row in rows))
    assert squared_norm(rows) == pytest.approx(exact, rel=1e-7)


@pytest.mark.parametrize("shape", [(1000, 7), (20, 7), (14, 7), (5, 7), (513, 129)])
def test_a_qr_in_blocks_is_a_qr(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(3).normal(size=shape)
    matrix[:, 2] = matrix[:, 1]  # a factor need not have full rank
    basis, core = tall_qr(matrix)
    np.testing.assert_allclose(basis @ core, matrix, atol=1e-12)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
    assert core.shape == (min(shape), shape[1])
