"""Weights and what they read: channels that hang together and differ in power, as hidden states."""

from __future__ import annotations

import numpy as np
import pytest

Array = np.ndarray


@pytest.fixture
def activations() -> Array:
    """(600, 96): a third as many causes as channels, some noise, one channel far above others."""
    random = np.random.default_rng(0)
    causes, mixing = random.normal(size=(600, 32)), random.normal(size=(32, 96))
    x = causes @ mixing + random.normal(size=(600, 96))
    x[:, 5] *= 8
    return x + random.normal(size=96)


@pytest.fixture
def moment(activations: Array) -> Array:
    return activations.T @ activations / len(activations)


@pytest.fixture
def weight() -> Array:
    return np.random.default_rng(1).normal(size=(40, 96))
