"""The filters keep what transformers' own keep, with the same probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation import logits_process as theirs

from edge_lra.errors import EdgeError
from edge_lra.runner import sampling
from edge_lra.runner.sampling import Sampler, Sampling

ROWS = np.random.default_rng(0).normal(scale=3, size=(20, 500)).astype(np.float32)


def their(processor: Any, logits: np.ndarray, seen: Any = ((0,),)) -> np.ndarray:
    found: np.ndarray = processor(torch.tensor(seen), torch.tensor(logits[None]))[0].numpy()
    return found


@pytest.mark.parametrize("k", [1, 5, 50, 500, 900])
def test_top_k_keeps_the_same(k: int) -> None:
    for row in ROWS:
        np.testing.assert_array_equal(
            sampling.top_k(row, k), their(theirs.TopKLogitsWarper(k), row)
        )


def test_top_k_keeps_what_equals_the_last() -> None:
    row = np.array([1, 2, 2, 2, 0], np.float32)
    np.testing.assert_array_equal(sampling.top_k(row, 2), their(theirs.TopKLogitsWarper(2), row))
    assert np.isfinite(sampling.top_k(row, 2)).sum() == 3


@pytest.mark.parametrize("p", [0.01, 0.3, 0.9, 0.999])
def test_top_p_keeps_the_same(p: float) -> None:
    for row in ROWS:
        np.testing.assert_array_equal(
            sampling.top_p(row, p), their(theirs.TopPLogitsWarper(p), row)
        )


@pytest.mark.parametrize("p", [0.0, 0.02, 0.5, 1.0])
def test_min_p_keeps_the_same(p: float) -> None:
    for row in ROWS:
        np.testing.assert_array_equal(
            sampling.min_p(row, p), their(theirs.MinPLogitsWarper(p), row)
        )


@pytest.mark.parametrize("penalty", [0.7, 1.3])
def test_a_penalty_changes_the_same(penalty: float) -> None:
    for row in ROWS:
        expected = their(theirs.RepetitionPenaltyLogitsProcessor(penalty), row, ((3, 7, 499),))
        np.testing.assert_allclose(sampling.penalize(row, {3, 7, 499}, penalty), expected)


@pytest.mark.parametrize(
    ("options", "chain"),
    [
        ({"temperature": 0.7}, [theirs.TemperatureLogitsWarper(0.7)]),
        (
            {"temperature": 1.5, "top_k": 40, "top_p": 0.8, "min_p": 0.05},
            [
                theirs.TemperatureLogitsWarper(1.5),
                theirs.TopKLogitsWarper(40),
                theirs.TopPLogitsWarper(0.8),
                theirs.MinPLogitsWarper(0.05),
            ],
        ),
        (
            {"temperature": 0.3, "top_p": 0.95, "min_p": 0.1},
            [
                theirs.TemperatureLogitsWarper(0.3),
                theirs.TopPLogitsWarper(0.95),
                theirs.MinPLogitsWarper(0.1),
            ],
        ),
    ],
)
def test_all_filters_together_give_the_same_probabilities(
    options: dict[str, Any], chain: list[Any]
) -> None:
    for row in ROWS:
        expected = row
        for processor in chain:
            expected = their(processor, expected)
        places, probabilities = Sampling(**options).candidates(row)
        assert places.tolist() == np.flatnonzero(np.isfinite(expected)).tolist()
        wanted = torch.softmax(torch.tensor(expected, dtype=torch.float64), -1).numpy()[places]
        np.testing.assert_allclose(probabilities, wanted, rtol=1e-5)


def test_draws_follow_the_probabilities() -> None:
    row = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    sampler = Sampler(Sampling(temperature=1.0, seed=3), [], 0)
    counts = np.bincount([sampler.choose(row) for _ in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(counts, [0.5, 0.3, 0.15, 0.05], atol=0.03)


def test_a_seed_gives_a_row_the_same_draws_and_other_rows_others() -> None:
    def draws(seed: int | None, row: int) -> list[int]:
        sampler = Sampler(Sampling(temperature=1.0, seed=seed), [], row)
        return [sampler.choose(logits) for logits in ROWS]

    assert draws(3, 0) == draws(3, 0)
    assert len({tuple(draws(seed, row)) for seed, row in [(3, 0), (3, 1), (4, 0)]}) == 3
    assert draws(None, 0) != draws(None, 0)


def test_a_penalty_counts_the_prompt_and_what_was_chosen() -> None:
    row = np.array([3.0, 2.9, 2.8], np.float32)
    sampler = Sampler(Sampling(repetition_penalty=2.0), [0], 0)
    assert [sampler.choose(row) for _ in range(3)] == [1, 2, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature: found -0.1, expected 0 or more"),
        ({"temperature": float("nan")}, "temperature: found nan"),
        ({"temperature": float("inf")}, "temperature: found inf"),
        ({"top_k": 0}, "top_k: found 0, expected at least 1"),
        ({"top_p": 0.0}, "top_p: found 0.0, expected more than 0"),
        ({"top_p": 1.1}, "top_p: found 1.1"),
        ({"min_p": 1.1}, "min_p: found 1.1, expected 0 to 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty: found 0.0, expected more than 0"),
        ({"seed": -1}, "seed: found -1, expected 0 or more"),
    ],
)
def test_what_no_token_can_be_drawn_with_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeError, match=message):
        Sampling(**options)
