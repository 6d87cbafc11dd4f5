"""`edge-lra plan`, and what exports and verifies by its file."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from edge_lra.bundle import load_manifest
from edge_lra.cli import main
from edge_lra.cli.plan import spans
from edge_lra.forms.plan import FormPlan, read_plan, write_plan
from tests.cli.documents import document


@pytest.fixture
def project(tiny: Path) -> Path:
    settings = 'model = "./model"\ndata = "t.txt"\n[[adapter]]\npath = "adapter"\n'
    Path("edge-lra.toml").write_text(settings)
    Path("t.txt").write_text("a fine film\nbad , not good\nwhat a bore\n" * 12)
    Path("held.txt").write_text("a film\nbad\n")
    return tiny


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, arguments)
    return result.exit_code, result.output


def test_a_plan_is_written_and_an_export_keeps_to_it(project: Path) -> None:
    found = document("plan", "--limit", "time=20", "--tokens", "16")
    plan = read_plan(Path("plan.toml"))
    assert found["plan"] == plan.as_dict() and plan.tokens == 16
    assert {site["name"] for site in found["sites"] if site["form"] != "int8"} == set(plan.forms)
    assert plan.forms and plan.expected["time"] <= 20
    file = Path("edge-lra.toml")
    file.write_text('plan = "plan.toml"\n' + file.read_text())
    assert document("export", "--out", "b.edge")["manifest"]["plan"] == plan.as_dict()
    held = document("verify", "b.edge", "--data", "held.txt")
    assert held["sources_skipped"] is None
    code, shown = run("plan", "--tokens", "16")
    assert code == 0 and "Measured on" in shown and "edge-lra export --plan plan.toml" in shown


def test_a_project_that_names_a_plan_can_make_it(project: Path) -> None:
    file = Path("edge-lra.toml")
    file.write_text('plan = "plan.toml"\n' + file.read_text())
    found = document("plan", "--tokens", "16")
    assert found["plan"] == read_plan(Path("plan.toml")).as_dict()
    Path("plan.toml").write_text(write_plan(FormPlan({"of.another.model": "float32"})))
    assert document("plan", "--tokens", "16")["int8"] == found["int8"]


def test_a_plan_by_hand_goes_with_a_device_of_another_scheme(project: Path) -> None:
    Path("p.toml").write_text(write_plan(FormPlan({"encoder.layer.0.output.dense": "float32"})))
    code, shown = run("export", "--plan", "p.toml", "--device", "cortex-a53", "--no-verify")
    assert code == 0 and "int8, by the plan" in shown
    assert "Linears by the plan: 0 int8-weight-only, 1 float32" in shown
    assert load_manifest(Path("adapter.edge"))["plan"]["forms"]["float32"]


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("--limit", "error=1e-12"), 1, "limit error: found"),
        (("--limit", "p50_ms=1"), 2, "'p50_ms' is not one of error, time, size_mib"),
        (("--device", "rpi4"), 1, "found no way to it but an emulator"),
        (("--out", "t.txt"), 1, "t.txt: found something that is not a plan"),
        (("--out", "no/plan.toml"), 1, "no/plan.toml: found no folder no, expected one"),
        (("--out", "adapter"), 1, "adapter: found a folder, expected a file"),
        (("--target", "http://x"), 1, "--target: found 'http://x'"),
    ],
)
def test_what_cannot_be_planned_writes_nothing(
    project: Path, arguments: tuple[str, ...], code: int, error: str
) -> None:
    before = Path("t.txt").read_bytes()
    found, shown = run("plan", *arguments)
    assert (found, error in shown) == (code, True), shown
    assert not Path("plan.toml").exists() and Path("t.txt").read_bytes() == before


def test_linears_that_lose_nothing_have_no_share(project: Path) -> None:
    file = project / "model/model.safetensors"
    tensors = load_file(file)
    nothing = {n: 0 * v if "layer." in n and v.ndim == 2 else v for n, v in tensors.items()}
    save_file(nothing, file, {"format": "pt"})
    Path("edge-lra.toml").write_text('model = "./model"\n')
    code, shown = run("plan", "--tokens", "16")
    assert code == 0 and "0.0 %" in shown, shown


def test_a_place_that_takes_no_file_is_told_before_anything_is_measured(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr("edge_lra.forms.make.plan_forms", lambda *_: pytest.fail("measured"))
    code, shown = run("plan")
    assert code == 1 and "plan.toml: found Read-only file system, expected a place" in shown


def test_a_plan_that_cannot_be_written_leaves_the_old_one(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = write_plan(FormPlan({"encoder.layer.0.output.dense": "float32"}))
    Path("plan.toml").write_text(old)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    code, shown = run("plan", "--tokens", "16")
    assert code == 1 and "No space left on device; free some space" in shown
    assert Path("plan.toml").read_text() == old and not list(project.glob("*.tmp"))


def test_a_project_of_another_scheme_is_told_that_its_is_mixed_from_int8(project: Path) -> None:
    file = Path("edge-lra.toml")
    file.write_text('quantize = "int4"\n' + file.read_text())
    Path("p.toml").write_text(write_plan(FormPlan({})))
    code, shown = run("export", "--plan", "p.toml")
    assert code == 1 and "plan: found quantize int4, expected int8" in shown
    code, shown = run("plan")
    assert code == 1 and "plan: found quantize int4, expected int8" in shown


def test_flags_beat_the_projects_plan(project: Path) -> None:
    Path("edge-lra.toml").write_text('plan = "p.toml"\n' + Path("edge-lra.toml").read_text())
    Path("p.toml").write_text(write_plan(FormPlan({"encoder.layer.0.output.dense": "float32"})))
    forms = []
    for flags in ((), ("--quantize", "none"), ("--keep-float", "encoder.layer.1.*")):
        code, shown = run("export", "--no-verify", "--out", "b.edge", "--json", "-", *flags)
        assert code == 0, shown
        manifest = load_manifest(Path("b.edge"))
        forms.append((manifest["scheme"], manifest["plan"] is not None))
    assert forms == [("int8", True), ("none", False), ("int8", False)]


def test_layers_are_told_in_spans() -> None:
    assert spans([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
    assert spans([3]) == "3"
