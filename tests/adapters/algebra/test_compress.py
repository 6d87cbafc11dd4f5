from __future__ import annotations

import itertools

import numpy as np
import pytest

from edge_lra.adapters.algebra.compress import (
    fit_accuracy,
    report,
    spectra,
    to_bytes,
    to_energy,
    to_rank,
    truncate,
)
from edge_lra.adapters.kinds import LowRank


def adapter() -> dict[str, LowRank]:
    random = np.random.default_rng(0)
    shapes = {"a": (20, 10, 3.0), "b": (8, 8, 1.0), "c": (30, 6, 0.4)}
    return {
        name: LowRank(random.normal(size=(3, width)), random.normal(size=(out, 3)), scale)
        for name, (out, width, scale) in shapes.items()
    }


def squared_error(sites: dict[str, LowRank], kept: dict[str, LowRank]) -> float:
    total = 0.0
    for name, update in sites.items():
        change = update.scale * update.up @ update.down
        if name in kept:
            change = change - kept[name].up @ kept[name].down
        total += float((change**2).sum())
    return total


@pytest.mark.parametrize("budget", [400, 700, 1000])
def test_a_budget_is_spent_nearly_as_well_as_can_be(budget: int) -> None:
    sites = adapter()
    found = spectra(sites)
    costs = {site.module: site.step_bytes for site in found}
    ranks = to_bytes(found, budget)
    spent = sum(costs[name] * rank for name, rank in ranks.items())
    assert budget - max(costs.values()) < spent <= budget
    best = min(
        squared_error(sites, truncate(sites, dict(zip("abc", choice, strict=True))))
        for choice in itertools.product(range(4), repeat=3)
        if sum(costs[name] * rank for name, rank in zip("abc", choice, strict=True)) <= spent
    )
    whole = squared_error(sites, {})
    assert squared_error(sites, truncate(sites, ranks)) <= best + 0.03 * whole


def test_every_request_gives_the_ranks_it_names() -> None:
    found = spectra(adapter())
    assert to_rank(found, 2) == {"a": 2, "b": 2, "c": 2}
    assert to_rank(found, 9) == {"a": 3, "b": 3, "c": 3}
    for name, rank in to_energy(found, 0.8).items():
        spectrum = next(site.spectrum for site in found if site.module == name)
        assert spectrum.kept_energy(rank) >= 0.8


def test_a_report_states_the_error_that_truncation_makes() -> None:
    sites = adapter()
    ranks = {"a": 2, "b": 0, "c": 3}
    kept = truncate(sites, ranks)
    assert kept.keys() == {"a", "c"}
    errors = {entry.module: entry.error for entry in report(spectra(sites), ranks)}
    for name, update in sites.items():
        alone = {name: kept[name]} if name in kept else {}
        part = {name: update}
        share = squared_error(part, alone) / squared_error(part, {})
        assert errors[name] == pytest.approx(np.sqrt(share), abs=1e-6)


def test_bisection_finds_the_smallest_adapter_that_is_good_enough() -> None:
    found = spectra(adapter())
    whole = sum(site.step_bytes * 3 for site in found)

    def accuracy(ranks: dict[str, int]) -> float:
        costs = {site.module: site.step_bytes for site in found}
        return 100 * sum(costs[name] * rank for name, rank in ranks.items()) / whole

    ranks, measured = fit_accuracy(found, accuracy, 60.0)
    assert 60 <= measured == accuracy(ranks) < 75
