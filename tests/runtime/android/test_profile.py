"""Latency and memory of the Java runner."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from tests.runtime.android.probe import Probe


def test_a_profile_has_figures_of_at_least_five_runs(probe: Probe, factored: Path) -> None:
    found = probe.ask("profile", runner=probe.load(factored), batch=1, tokens=16)
    assert found["adapter"] == "sentiment" and found["runs"] >= 5
    assert 0 < found["min_ms"] <= found["p50_ms"] <= found["p99_ms"]
    assert found["min_ms"] <= found["mean_ms"] and found["load_ms"] > 0
    assert found["first_run_ms"] >= found["min_ms"] and found["peak_rss_mib"] > 50
    wrong = probe.ask("profile", runner=probe.load(factored), batch=0, tokens=16)
    assert wrong["code"] == "INVALID_ARGUMENT" and "0x16" in wrong["message"]


def test_loading_running_and_closing_does_not_grow(
    java: list[str], tiny_decoder: Path, tmp_path: Path
) -> None:
    # A process of its own, whose memory no other test has filled, with a heap that is soon full:
    # a virtual machine takes more of the system's before it collects.
    command = [*java, "-Xmx48m", "org.edgelra.Probe"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    probe = Probe(process, tmp_path)
    ids = np.array([[1, 2, 3]])
    inputs = probe.file({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    answer = probe.ask("soak", bundle=str(tiny_decoder), inputs=str(inputs), rounds=400)
    process.communicate(timeout=30)
    first, *_, last = answer["moments"]
    assert last - first < 32, answer  # 300 sessions that were kept would be 100 MiB or more
