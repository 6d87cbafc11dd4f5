"""The Python runner answers the bundles that all runners are held against."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edge_lra import Runner
from edge_lra.bundle import load_manifest
from edge_lra.errors import EdgeError
from edge_lra.golden import check_golden
from tests.runner.tiny_decoder import write_manifest

UP = "encoder.layer.0.attention.self.query.lora_up"


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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("classifier.bias"), "found no classifier.bias"),
        (lambda t: t.update({UP: t[UP][:3].copy()}), f"{UP}: found float32"),
    ],
)
def test_an_adapter_without_its_head_or_of_two_ranks_is_refused(
    change: Callable[[dict[str, np.ndarray]], object], said: str, factored: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(factored, tmp_path / "b.edge")
    file = folder / "adapters/sentiment.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    write_manifest(folder, load_manifest(folder))
    runner = Runner.load(folder, threads=1)
    with pytest.raises(EdgeError, match=re.escape(f"adapter sentiment: {said}")):
        runner.classify(["a fine film"], adapter="sentiment")
    assert runner.classify(["a fine film"], adapter="mirrored")[0].label == "negative"
