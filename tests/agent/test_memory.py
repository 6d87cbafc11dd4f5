"""Resident memory, its peak, its kinds and its timeline."""

from __future__ import annotations

import mmap
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge_lra.agent import memory
from edge_lra.agent.memory import Timeline, mapped_mib, peak_rss_mib, pss_mib, rss_mib, split


def test_the_peak_stays_when_memory_is_given_back() -> None:
    before = rss_mib()
    block = np.ones(256 << 17)  # 256 MiB
    assert rss_mib() - before > 200
    del block
    assert rss_mib() - before < 100
    assert peak_rss_mib() - before > 200


def test_shared_pages_count_less_in_pss() -> None:
    found = pss_mib()
    assert found is not None and 0 < found <= rss_mib() + 1


def test_kinds_sum_to_what_is_resident() -> None:
    found = split()
    assert found is not None
    assert found.anonymous_mib + found.file_mib == pytest.approx(rss_mib(), abs=2)


def test_only_touched_pages_of_the_folder_count_as_mapped(tmp_path: Path) -> None:
    inside, beside = tmp_path / "b.edge", tmp_path / "b.edge2"
    for folder in (inside, beside):
        folder.mkdir()
        (folder / "model.onnx.data").write_bytes(bytes(8 << 20))
    files = [(folder / "model.onnx.data").open("rb") for folder in (inside, beside)]
    maps = [mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) for file in files]
    for mapped in maps:
        mapped.madvise(mmap.MADV_RANDOM)  # no reading ahead
    assert mapped_mib(inside) < 1
    assert sum(maps[0][place] for place in range(0, 4 << 20, 4096)) == 0
    assert sum(maps[1][place] for place in range(0, 8 << 20, 4096)) == 0
    assert 4 <= mapped_mib(inside) < 6
    for handle in (*maps, *files):
        handle.close()


def test_a_thread_samples_while_the_block_runs_and_no_longer() -> None:
    timeline = Timeline()
    timeline.mark("begin")
    with timeline.watch():
        time.sleep(0.2)
    taken = len(timeline.samples)
    assert taken > 5
    time.sleep(0.05)
    assert len(timeline.samples) == taken
    seconds = [sample[0] for sample in timeline.as_dict()["samples"]]
    assert seconds == sorted(seconds)


def test_between_runs_a_sample_is_taken_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    timeline = Timeline()
    for _ in range(1000):
        timeline.between_runs()
    assert len(timeline.samples) <= 2
    monkeypatch.setattr(memory, "BETWEEN_RUNS_S", 0.0)
    timeline.between_runs()
    timeline.between_runs()
    assert len(timeline.samples) >= 3
    assert {sample[2] for sample in timeline.samples} == {None}  # PSS is for marks


def test_linux_is_read_without_psutil() -> None:
    code = (
        "import sys; from edge_lra.agent.memory import *; "
        "print(rss_mib() > 1, peak_rss_mib() > 1, 'psutil' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "False"]
