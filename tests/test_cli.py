"""The command line: what a user sees of mistakes, and what is imported when."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from edge_lra.cli import main
from edge_lra.cli.common import explain, find_bundle, remember_bundle
from edge_lra.cli.export import default_name, split_adapter
from edge_lra.errors import GateError
from edge_lra.quantize import SCHEMES


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.mark.parametrize("module", ["edge_lra", "edge_lra.runner", "edge_lra.agent.measure"])
def test_importing_loads_nothing_a_device_lacks(module: str) -> None:
    heavy = {"torch", "onnx", "onnx_ir", "transformers", "peft", "click", "tokenizers"}
    code = f"import sys, {module}; print(*({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_command_line_starts_without_numpy_or_onnxruntime() -> None:
    code = "import sys, edge_lra.cli; print(*({'numpy', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_sample_writes_a_project_once(tmp_path: Path) -> None:
    assert call("sample", str(tmp_path / "demo")).exit_code == 0
    again = call("sample", str(tmp_path / "demo"))
    assert again.exit_code == 1
    assert again.stderr.startswith("Error: ") and again.stderr.count("\n") == 1


def test_a_missing_bundle_is_a_mistake_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["profile"], ["verify"], ["run", "--text", "a"], ["inspect", "."]):
        result = call(*command)
        assert result.exit_code == 1, command
        assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1


def test_debug_lets_the_error_through(tmp_path: Path) -> None:
    result = call("inspect", str(tmp_path), "--debug")
    assert result.exception is not None and not isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "--question", "who?"],
        ["run", "--text", "a", "--text", "b", "--text-pair", "c"],
        ["profile", "--shape", "128"],
        ["profile", "--limit", "speed=3"],
        ["profile", "--limit", "p50_ms=fast"],
        ["export", "--quantize", "int3"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert call(*arguments).exit_code == 2


def test_help_lists_the_schemes_of_the_table() -> None:
    choices = "".join(call("export", "--help").stdout.split())  # folded at any width
    assert f"[{'|'.join(SCHEMES)}]" in choices


def test_the_bundle_written_last_is_the_default(tmp_path: Path) -> None:
    remember_bundle(tmp_path / "elsewhere" / "x.edge", tmp_path)
    assert find_bundle(None, tmp_path) == tmp_path / "elsewhere" / "x.edge"
    assert find_bundle(Path("y.edge"), tmp_path) == Path("y.edge")


def test_a_failed_gate_exits_with_3() -> None:
    assert explain(GateError("kl_mean: found 1")).exit_code == 3


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.edge"), "x.edge: No space left"),
        (PermissionError(errno.EACCES, "Permission denied", "x.edge"), "x.edge: Permission denied"),
        (ModuleNotFoundError("no", name="torch"), 'pip install "edge-lra[export]"'),
        (RuntimeError("first\nsecond"), "unexpected RuntimeError: first; run again with --debug"),
    ],
)
def test_other_errors_are_one_line(error: Exception, part: str) -> None:
    shown = explain(error)
    assert isinstance(shown, click.ClickException)
    assert part in shown.message and "\n" not in shown.message


def test_an_adapter_is_split_from_its_name(tmp_path: Path) -> None:
    assert split_adapter("mood=a/b") == ("mood", "a/b")
    (tmp_path / "a=b").mkdir()
    assert split_adapter(str(tmp_path / "a=b")) == (None, str(tmp_path / "a=b"))


def test_a_bundle_is_named_after_its_adapter_then_its_model() -> None:
    assert default_name([("mood", "x")], "m") == "mood"
    assert default_name([], "org/model") == "model"
