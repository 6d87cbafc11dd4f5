from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edge_lra.quantize.blockwise import BLOCK, Blocks, quantize_blocks
from edge_lra.quantize.compensate import (
    Coupling,
    OutputError,
    columns,
    compensate_blocks,
    compensate_pair_safe,
    couple,
    output_error,
)
from edge_lra.quantize.compensate.columns import round_columns
from edge_lra.quantize.pairsafe import PAIR_LIMIT, Quantized, quantize_pair_safe

Array = np.ndarray


def shown_rows(found: Quantized) -> Array:
    return found.values * found.scale.astype(np.float64)[:, None]


def pair_sums(values: Array) -> Array:
    wide = values[:, : values.shape[1] // 2 * 2].astype(np.int64).reshape(len(values), -1, 2)
    return np.maximum(np.clip(wide, 0, None).sum(2), -np.clip(wide, None, 0).sum(2))


class Halves:
    """Integers of step 1/2 in every column, without limits."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.asked: list[Array] = []

    def step(self, column: int) -> Array:
        return np.full(self.rows, 0.5)

    def nearest(self, column: int, wanted: Array, integers: Array) -> Array:
        self.asked.append(wanted)
        return np.rint(wanted)


def test_the_integers_are_those_of_gptq_by_the_inverse(weight: Array, moment: Array) -> None:
    coupling = couple(moment)
    damped = moment + np.eye(96) * 0.01 * np.diag(moment).mean()
    order = coupling.order
    pushes = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    left, expected = weight[:, order].copy(), np.empty(weight.shape)
    for j in range(96):  # Frantar et al. 2022, algorithm 1
        rounded = np.rint(left[:, j] / 0.5)
        pushed = (left[:, j] - rounded * 0.5) / pushes[j, j]
        left[:, j + 1 :] -= np.outer(pushed, pushes[j, j + 1 :])
        expected[:, order[j]] = rounded
    found = round_columns(weight, coupling, Halves(len(weight)))
    # Shares in steps flip a rounding here and there, and all that follows it in its row.
    assert (found == expected).mean() > 0.95
    losses = [output_error(weight, each * 0.5, moment).lost for each in (found, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


def test_sums_are_exact_in_any_order(
    weight: Array, moment: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    for lazy in (5, 32):
        monkeypatch.setattr(columns, "LAZY", lazy)
        form = Halves(len(weight))
        round_columns(weight, couple(moment), form)
        asked.append(np.array(form.asked))
    np.testing.assert_array_equal(*asked)


def test_int8_rows_lose_less_than_six_tenths_of_rounding(weight: Array, moment: Array) -> None:
    plain = output_error(weight, shown_rows(quantize_pair_safe(weight)), moment)
    found = compensate_pair_safe(weight, couple(moment))
    assert found.error.ratio < 0.6 * plain.ratio


@pytest.mark.parametrize("bits", [4, 8])
def test_blocks_lose_less_than_six_tenths_of_rounding(
    weight: Array, moment: Array, bits: int
) -> None:
    plain = output_error(weight, quantize_blocks(weight, bits).weight(bits, 96), moment)
    found = compensate_blocks(weight, couple(moment), bits)
    assert found.error.ratio < 0.6 * plain.ratio


def test_the_reported_error_is_that_of_what_is_stored(weight: Array, moment: Array) -> None:
    coupling = couple(moment)
    rows, blocks = compensate_pair_safe(weight, coupling), compensate_blocks(weight, coupling, 4)
    assert rows.error == output_error(weight, shown_rows(rows.stored), moment)
    assert blocks.error == output_error(weight, blocks.stored.weight(4, 96), moment)


@pytest.fixture
def steep() -> Array:
    """A moment (96, 96) of channels that hang together, each with half the power of the last."""
    random = np.random.default_rng(9)
    x = random.normal(size=(400, 8)) @ random.normal(size=(8, 96)) + random.normal(size=(400, 96))
    x *= np.sqrt(2.0 ** -np.arange(96)) + 1e-3
    return x.T @ x / len(x)


@pytest.mark.parametrize("width", [96, 95])
@pytest.mark.parametrize("sign", [-1, 1])
def test_pairs_stay_safe_where_much_is_made_up_for(steep: Array, width: int, sign: int) -> None:
    random = np.random.default_rng(2)
    weight = sign * (1 + random.normal(size=(64, width)) * 0.05)
    found = compensate_pair_safe(weight, couple(steep[:width, :width])).stored
    assert pair_sums(found.values).max() == PAIR_LIMIT
    assert np.abs(found.values.astype(np.int64)).max() <= 127


def test_later_columns_make_up_for_what_pairs_clip(moment: Array) -> None:
    weight = 1 + np.random.default_rng(3).normal(size=(64, 96)) * 0.05
    plain = output_error(weight, shown_rows(quantize_pair_safe(weight)), moment)
    assert compensate_pair_safe(weight, couple(moment)).error.ratio < 0.6 * plain.ratio


@pytest.mark.parametrize("width", [64, 50])
def test_blocks_are_packed_like_plain_ones(moment: Array, width: int) -> None:
    weight = np.random.default_rng(4).normal(size=(3, width))
    found = compensate_blocks(weight, couple(moment[:width, :width]), 4).stored
    plain = quantize_blocks(weight, 4)
    for mine, theirs in zip(found, plain, strict=True):
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    assert isinstance(found, Blocks)
    assert found.scale.shape[1] == -(-width // BLOCK)


Compensate = Callable[[Array, Coupling], tuple[tuple[Array, Array], OutputError]]
FORMS: list[Compensate] = [compensate_pair_safe, lambda w, c: compensate_blocks(w, c, 4)]


@pytest.mark.parametrize("compensate", FORMS)
def test_a_row_comes_out_the_same_without_the_others(
    weight: Array, moment: Array, compensate: Compensate
) -> None:
    coupling = couple(moment)
    whole, _ = compensate(weight, coupling)
    for rows in np.s_[:1, 1:8, 8:]:
        part, _ = compensate(weight[rows], coupling)
        for mine, theirs in zip(part, whole, strict=True):
            np.testing.assert_array_equal(mine, theirs[rows])


def test_independent_inputs_leave_rounding_as_it_is(weight: Array) -> None:
    power = np.random.default_rng(5).uniform(1, 9, 96)
    coupling = couple(np.diag(power))
    np.testing.assert_allclose(coupling.cost, power + 0.01 * power.mean(), rtol=1e-12)
    found = compensate_pair_safe(weight, coupling).stored
    # A share of a step of 2**-22 may round another way.
    assert (found.values != quantize_pair_safe(weight).values).mean() < 1e-3


@pytest.mark.parametrize("compensate", FORMS)
def test_inputs_that_were_always_zero_are_rounded_as_they_are(
    weight: Array, moment: Array, compensate: Compensate
) -> None:
    dead = [3, 40, 41]
    quiet = moment.copy()
    quiet[dead], quiet[:, dead] = 0, 0
    coupling = couple(quiet)
    assert not coupling.shares[np.isin(coupling.order, dead)].any()
    stored, error = compensate(weight, coupling)
    assert 0 < error.ratio < 0.1
    nothing, error = compensate(weight, couple(0 * moment))
    assert error.ratio == 0
    assert len(nothing[0]) == len(stored[0])


def test_a_divisor_stands_for_activations_that_were_divided(
    activations: Array, moment: Array
) -> None:
    divisor = np.random.default_rng(6).uniform(0.25, 4, 96)
    divided = activations / divisor
    expected = couple(divided.T @ divided / len(divided))
    found = couple(moment, divisor)
    np.testing.assert_allclose(found.moment, expected.moment, rtol=1e-9)
    np.testing.assert_array_equal(found.order, expected.order)


def test_a_weight_of_zeros_stays_one(moment: Array) -> None:
    found = compensate_blocks(np.zeros((2, 96)), couple(moment), 4)
    assert not found.stored.weight(4, 96).any()
    assert not compensate_pair_safe(np.zeros((2, 96)), couple(moment)).stored.values.any()
