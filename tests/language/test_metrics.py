"""Figures of next-token distributions, against torch's own losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_lra.language.metrics import compare_positions, join, summarize


def logits(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(6, 11)).astype(np.float32)


def test_figures_are_those_of_torch() -> None:
    expected, found = logits(0), logits(1)
    following = np.array([3, 1, 0, 10, 7, 2])
    metrics = summarize(compare_positions(expected, found, following))
    p, q = (torch.from_numpy(x).double().log_softmax(-1) for x in (expected, found))
    ids = torch.from_numpy(following)
    kl = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
    loss = torch.nn.functional.nll_loss(q, ids)
    assert metrics["kl_mean"] == pytest.approx(float(kl.mean()))
    assert metrics["kl_p99"] == pytest.approx(float(kl.quantile(0.99)))
    assert metrics["perplexity"] == pytest.approx(float(loss.exp()))
    assert metrics["perplexity_float"] == pytest.approx(
        float(torch.nn.functional.nll_loss(p, ids).exp())
    )
    same = (expected.argmax(-1) == found.argmax(-1)).mean()
    assert metrics["same_top"] == pytest.approx(same)
    assert metrics["tokens"] == 6


def test_positions_joined_are_positions_at_once() -> None:
    expected, found, following = logits(0), logits(1), np.arange(6)
    parts = [
        compare_positions(expected[i : i + 2], found[i : i + 2], following[i : i + 2])
        for i in (0, 2, 4)
    ]
    whole = summarize(compare_positions(expected, found, following))
    assert summarize(join(parts)) == pytest.approx(whole)
