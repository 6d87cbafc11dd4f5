"""What the measuring process does: turns, inputs, memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_lra.pipeline import ExportRequest, export
from edge_lra.profile import child
from edge_lra.profile.memory import peak_rss_mib, rss_mib
from edge_lra.runner import Runner


def test_bundles_take_turns_and_the_first_place_alternates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []

    def fake(name: str) -> Any:
        run: Callable[..., None] = lambda self, inputs: ran.append(name)  # noqa: E731
        return type(name, (), {"run": run})()

    monkeypatch.setattr(child, "token_inputs", lambda runner, shape: {})
    request = {"warmup": 1, "runs": 3}
    latencies = child.time_in_turns([fake("a"), fake("b")], (1, 8), request)
    assert "".join(ran) == "ab" + "ab" + "ba" + "ab"
    assert [len(row) for row in latencies] == [3, 3]


def test_inputs_are_tokens_of_the_vocabulary(tiny: Path) -> None:
    runner = Runner.load(export(ExportRequest(tiny / "b.edge", model="model", verify=False)))
    inputs = child.token_inputs(runner, (4, 40))
    assert set(inputs) == set(runner.input_names)
    assert inputs["input_ids"].shape == (4, 40)
    assert set(inputs["input_ids"].ravel()) <= set(range(1, 19))
    assert inputs["attention_mask"].all()


def test_a_mistake_is_answered_not_raised(tiny: Path) -> None:
    request = {"what": "latency", "bundles": [str(tiny)], "threads": 1}
    assert "found no manifest.json" in child.answer(request)["error"]


def test_the_peak_stays_when_memory_is_given_back() -> None:
    before = rss_mib()
    block = np.ones(256 << 17)  # 256 MiB
    assert rss_mib() - before > 200
    del block
    assert rss_mib() - before < 100
    assert peak_rss_mib() - before > 200
