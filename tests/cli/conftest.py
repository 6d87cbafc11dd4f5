"""Commands that must fail, and what they may leave: nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_lra.cli import main


def _listing(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def _refused(*arguments: str, code: int = 1) -> str:
    """Run a command that must fail and change nothing around it; return its one line."""
    before = _listing(Path.cwd())
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("Error: ")
    if code == 1:
        assert len(lines) == 1
    assert "Traceback" not in result.stderr and "unexpected" not in result.stderr
    assert _listing(Path.cwd()) == before
    return lines[-1]


@pytest.fixture
def refused(tiny: Path) -> Callable[..., str]:
    """Return a function that runs a failing command in a folder with `model` and `adapter`."""
    return _refused
