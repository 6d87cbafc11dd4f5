"""This machine as a target."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_lra.errors import EdgeError
from edge_lra.transport import Local
from edge_lra.transport.process import failure, read_answer
from tests.transport.conftest import REQUESTS


def test_a_request_is_answered_in_another_process(small_bundle: Path) -> None:
    local = Local()
    answer = local.run({**REQUESTS[0], "bundles": [local.push(small_bundle)]})
    assert len(answer["latencies_ms"][0]) == 3


def test_the_probe_tells_this_machine() -> None:
    host = Local().probe()
    assert host.arch == os.uname().machine and host.ram_mib and "onnxruntime" in host.versions


def test_a_mistake_names_itself(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match=r"found no manifest\.json"):
        Local().run({**REQUESTS[0], "bundles": [str(tmp_path)]})


def test_a_projects_own_module_does_not_stand_before_pythons(
    small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong random')")
    monkeypatch.chdir(tmp_path)
    local = Local()
    assert local.run({**REQUESTS[0], "bundles": [local.push(small_bundle)]})


def test_nothing_is_written_to_the_users_cache(
    small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    Local().run({**REQUESTS[0], "bundles": [str(small_bundle)]})
    assert list(tmp_path.iterdir()) == []


def test_a_signal_is_named_with_its_remedy() -> None:
    assert failure(-9, "") == (
        "the measuring process was ended by SIGKILL; free memory, or give a smaller --shape"
    )
    assert failure(3, "a\nlast line\n") == "the measuring process failed: last line"
    assert failure(-63, "") == "the measuring process was ended by signal 63"


def test_an_answer_that_is_none_is_one_line() -> None:
    with pytest.raises(EdgeError, match="answered 'a banner', expected JSON"):
        read_answer("board", "a\nbanner\n")


def test_a_file_is_copied(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    Local().pull(str(tmp_path / "a"), tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"x"
    with pytest.raises(EdgeError, match="cannot be copied: No such file"):
        Local().pull(str(tmp_path / "none"), tmp_path / "c")
