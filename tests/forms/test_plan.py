"""A plan's file: what is written is read again, and what is not known is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_lra.errors import EdgeError
from edge_lra.forms.plan import FormPlan, parse_plan, read_plan, write_plan

PLAN = FormPlan(
    {"layer.0.value": "int8-weight-only", "layer.1.down": "float32", "layer.0.up": "float32"},
    device='The "fast" one',
    tokens=128,
    threads=2,
    limits={"error": 0.02},
    expected={"error": 0.0123456789, "time": 1.25, "size_mib": 30.0},
    layers=2,
)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    for plan in (PLAN, FormPlan({})):
        file.write_text(write_plan(plan), encoding="utf-8")
        assert read_plan(file) == plan
        assert parse_plan(plan.as_dict(), "manifest") == plan


def test_forms_alone_are_a_plan(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text('[forms]\nfloat32 = ["layer.1.down"]\n')
    assert read_plan(file) == FormPlan({"layer.1.down": "float32"})


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("forms = 1", r"found no \[forms\]"),
        ("[form]", "found 'form', expected one of forms, device"),
        ("[forms]\nint4 = []", "forms: found 'int4', expected one of int8-weight-only, float32"),
        ("[forms]\nfloat32 = 'x'", "forms.float32: found 'x', expected a list of modules"),
        ("[forms]\nfloat32 = ['x', 'x']", "forms: found x twice"),
        ("tokens = 0\n[forms]", "tokens: found 0, expected a count"),
        ("device = 1\n[forms]", "device: found 1, expected a name"),
        ("[forms]\n[limits]\np50_ms = 1", "limits: found 'p50_ms', expected one of error, time"),
        ("[forms]\n[limits]\nerror = true", "limits.error: found True, expected a number"),
        ("[forms]\n[limits]\nerror = inf", "limits.error: found inf, expected a number"),
        ("[forms]\n[limits]\nerror = nan", "limits.error: found nan, expected a number"),
        (f"[forms]\n[limits]\ntime = 1{'0' * 400}", "limits.time: found 10+, expected a number"),
        ("[forms]\n[expected]\ntime = -1", "expected.time: found -1, expected a number"),
        ("schema_version = 2\n[forms]", "schema_version: found 2, expected 1"),
        ("x = ", "expected TOML in UTF-8"),
    ],
)
def test_what_is_not_known_is_refused_by_name(tmp_path: Path, text: str, error: str) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(text)
    with pytest.raises(EdgeError, match=error) as found:
        read_plan(file)
    assert str(file) in str(found.value)


def test_a_file_that_is_missing_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="No such file or directory; make it with `edge-lra plan`"):
        read_plan(tmp_path / "plan.toml")
