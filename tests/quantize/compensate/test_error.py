from __future__ import annotations

import numpy as np
import pytest

from edge_lra.quantize.compensate import output_error

Array = np.ndarray


def test_the_ratio_is_that_of_the_outputs_themselves(
    weight: Array, activations: Array, moment: Array
) -> None:
    shown = np.round(weight)
    lost = np.linalg.norm(activations @ (weight - shown).T)
    expected = lost / np.linalg.norm(activations @ weight.T)
    assert output_error(weight, shown, moment).ratio == pytest.approx(expected, rel=1e-9)


def test_parts_of_a_weight_have_the_error_of_the_whole(weight: Array, moment: Array) -> None:
    shown = np.round(weight)
    first, rest = (output_error(weight[part], shown[part], moment) for part in np.s_[:7, 7:])
    whole = output_error(weight, shown, moment)
    assert first.joined(rest) == pytest.approx(whole, rel=1e-12)
    assert first.ratio != pytest.approx(whole.ratio, rel=1e-3)


def test_inputs_that_are_always_zero_lose_nothing(weight: Array) -> None:
    assert output_error(weight, 0 * weight, np.zeros((96, 96))).ratio == 0


def test_an_error_that_no_input_shows_is_none(weight: Array) -> None:
    x = np.random.default_rng(2).normal(size=96)
    unseen = weight - np.outer(weight @ x, x) / (x @ x)  # its outputs round to either side of 0
    for row in unseen:
        assert output_error(weight, weight + row, np.outer(x, x)).ratio < 1e-6
