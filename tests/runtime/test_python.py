"""The Python runner answers the bundles that all runners are held against."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_lra import Runner
from edge_lra.bundle import load_manifest
from edge_lra.golden import check_golden


@pytest.mark.parametrize("name", ["merged", "factored", "hidden"])
def test_golden_cases_hold(name: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(name)
    found = check_golden(folder, load_manifest(folder))
    assert found["cases"] > 0 and found["max_abs_error"] < 1e-4


def test_an_adapter_that_can_be_off_is_proven_on_and_off(hidden: Path, factored: Path) -> None:
    assert set(load_manifest(hidden)["golden"]["adapters"]) == {None, "headless"}
    assert None not in load_manifest(factored)["golden"]["adapters"]  # each brings the head


def test_adapters_switch_and_turn_off(factored: Path, hidden: Path) -> None:
    runner = Runner.load(factored, threads=1)
    good, bad = (
        runner.classify(["a fine film, warm and funny"], adapter=name)[0].label
        for name in runner.adapters
    )
    assert (good, bad) == ("positive", "negative")
    embedder = Runner.load(hidden, threads=1)
    on, off = (embedder.embed(["a fine film"], adapter=name) for name in ("headless", None))
    assert abs(on - off).max() > 0.01
