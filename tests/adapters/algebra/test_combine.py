"""Combinations, held against PEFT's add_weighted_adapter."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers

from edge_lra.adapters.algebra.combine import Settings, combine
from edge_lra.adapters.lora_file import open_lora

WEIGHTS = (0.7, 0.4)


@pytest.fixture
def model(tiny: Path) -> Any:
    """Return a PEFT model with adapters `a` (rank 4) and `b` (rank 4), both saved."""
    torch.manual_seed(0)
    base = transformers.AutoModel.from_pretrained(tiny / "model")
    options = {"r": 4, "target_modules": ["query", "value"]}
    model = peft.get_peft_model(base, peft.LoraConfig(**options, lora_alpha=6), "a")
    model.add_adapter("b", peft.LoraConfig(**options, use_rslora=True))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tiny)
    return model


def deltas(model: Any, name: str) -> dict[str, np.ndarray]:
    return {
        key.removeprefix("base_model.model."): module.get_delta_weight(name).detach().numpy()
        for key, module in model.named_modules()
        if hasattr(module, "get_delta_weight") and name in module.lora_A
    }


@pytest.mark.parametrize(
    ("method", "theirs", "settings"),
    [
        ("cat", {"combination_type": "cat"}, Settings(8)),
        ("svd", {"combination_type": "svd", "svd_rank": 3}, Settings(3)),
        ("linear", {"combination_type": "linear"}, Settings(4)),
        (
            "ties",
            {"combination_type": "ties_svd", "svd_rank": 5, "density": 0.4},
            Settings(5, density=0.4),
        ),
        (
            "dare",
            {"combination_type": "dare_linear_svd", "svd_rank": 8, "density": 1.0},
            Settings(8, density=1.0),
        ),
    ],
)
def test_a_method_gives_what_pefts_gives(
    tiny: Path, model: Any, method: str, theirs: dict[str, Any], settings: Settings
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.add_weighted_adapter(["a", "b"], list(WEIGHTS), "c", **theirs)
    pairs = [(w, open_lora(tiny / name).sites) for w, name in zip(WEIGHTS, "ab", strict=True)]
    found, errors = combine(pairs, method, settings)
    wanted, one, two = (deltas(model, name) for name in ("c", "a", "b"))
    for module, site in found.items():
        change = site.merge(np.zeros(wanted[module].shape))
        size = np.linalg.norm(wanted[module])
        assert np.linalg.norm(change - wanted[module]) <= 1e-5 * size, module
        exact = WEIGHTS[0] * one[module] + WEIGHTS[1] * two[module]
        error = np.linalg.norm(change - exact) / np.linalg.norm(exact)
        assert errors[module] == pytest.approx(error, abs=1e-5)
        assert (error < 1e-5) == (method in ("cat", "dare"))


def test_dropping_at_random_keeps_the_sum_on_average(tiny: Path, model: Any) -> None:
    pairs = [(1.0, open_lora(tiny / "a").sites)]
    exact, _ = combine(pairs, "cat", Settings(4))
    module = next(iter(exact))
    rounds = [
        combine(pairs, "dare", Settings(32, density=0.5, seed=seed))[0][module]
        for seed in range(60)
    ]
    shape = (32, 32)
    mean = np.mean([r.merge(np.zeros(shape)) for r in rounds], axis=0)
    wanted = exact[module].merge(np.zeros(shape))
    assert np.linalg.norm(mean - wanted) < 0.2 * np.linalg.norm(wanted)
    one, again = (combine(pairs, "dare", Settings(32, 0.5, seed=3))[0][module] for _ in range(2))
    np.testing.assert_array_equal(one.up, again.up)
