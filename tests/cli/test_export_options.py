"""Every option of `export` reaches what it is for."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edge_lra.cli import main
from edge_lra.cli.export import export, make_request
from edge_lra.quantize.remedies import REMEDIES

BASE = ("export", "--model", "model", "--adapter", "adapter", "--out", "b.edge", "--no-verify")
ELSEWHERE = {"device", "quantize", "json_to"}  # read before the request is made


def manifest(*options: str) -> dict[str, object]:
    result = CliRunner().invoke(main, [*BASE, *options])
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(Path("b.edge/manifest.json").read_text()))


def test_each_option_is_read() -> None:
    text = inspect.getsource(make_request)
    names = {p.name for p in export.params if isinstance(p, click.Option)} - ELSEWHERE
    missing = sorted(name for name in names if f'options["{name}"]' not in text)
    assert missing in ([], ["debug", "log_level"])


def test_a_context_of_an_encoder_is_refused_by_name(
    tiny: Path, refused: Callable[..., str]
) -> None:
    assert "context: found 8 for family bert" in refused(*BASE, "--context", "8")


def test_half_precision_factors_of_an_encoder_are_refused(
    tiny: Path, refused: Callable[..., str]
) -> None:
    line = refused(*BASE, "--factored", "--adapter-dtype", "fp16")
    assert "adapter dtype: found fp16, expected fp32" in line


@pytest.mark.parametrize("name", REMEDIES)
def test_each_remedy_can_be_left_out(tiny: Path, name: str) -> None:
    """And the graph or its weights are others then."""
    text = "\n".join(f"good film number {i}" for i in range(40))
    Path("t.txt").write_text(text)
    scheme = "int4" if name == "mixed-bits" else "int8"
    options = ("--data", "t.txt", "--quantize", scheme)
    found = [manifest(*options, *more) for more in ((), ("--without", name))]
    assert [m["without"] for m in found] == [[], [name]]
    files = [{k: v["sha256"] for k, v in m["files"].items()} for m in found]  # type: ignore[attr-defined]
    assert any(files[0][f] != files[1].get(f) for f in ("model.onnx", "model.onnx.data"))


def test_a_remedy_that_is_not_there_is_told(tiny: Path) -> None:
    result = CliRunner().invoke(main, [*BASE, "--without", "magic"])
    assert result.exit_code == 2 and "static-scales" in result.stderr


@pytest.mark.parametrize("given", ["option", "file"])
def test_a_remedy_can_be_asked_for(tiny: Path, given: str) -> None:
    if given == "file":
        Path("edge-lra.toml").write_text('with = ["refit"]\n')
    found = manifest("--factored", *(("--with", "refit") if given == "option" else ()))
    assert found["with"] == ["refit"]
    assert found["adapters"]["adapter"]["refit"]  # type: ignore[index]


@pytest.mark.parametrize("given", ["option", "file"])
def test_an_extra_rank_can_be_asked_for(tiny: Path, given: str) -> None:
    if given == "file":
        Path("edge-lra.toml").write_text("extra_rank = 4\n")
    found = manifest(*(("--extra-rank", "4") if given == "option" else ()))
    assert found["extra_rank"] == 4


def test_only_what_is_off_can_be_asked_for(tiny: Path) -> None:
    result = CliRunner().invoke(main, [*BASE, "--with", "gptq"])
    assert result.exit_code == 2 and "'gptq' is not one of refit." in result.stderr


def test_a_projects_file_can_leave_a_remedy_out(tiny: Path) -> None:
    Path("edge-lra.toml").write_text('without = ["tanh-gelu"]\n')
    assert manifest()["without"] == ["tanh-gelu"]


def test_a_wrong_name_in_a_projects_file(tiny: Path, refused: Callable[..., str]) -> None:
    Path("edge-lra.toml").write_text('without = ["magic"]\n')
    assert "without: found 'magic', expected one of smoothing, centring" in refused(*BASE)
