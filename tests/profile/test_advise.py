"""Which export to take: every candidate is really made, and the choice follows from its costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_lra.cli import main
from edge_lra.errors import EdgeError
from edge_lra.profile.advise import Candidate, Trial, choose, mixes
from edge_lra.profile.measurement import Layer
from edge_lra.quantize import SCHEMES
from tests.cli.documents import validator
from tests.profile.profiles import entry, measured, timing


def trial(scheme: str, p50_ms: float, files: int, error: float, peak: float = 92.1) -> Trial:
    found = measured()
    object.__setattr__(found.memory, "peak_rss_mib", peak)
    object.__setattr__(found, "timings", (timing((1, 128), p50_ms),))
    made = entry(measured=found)
    object.__setattr__(made, "file_bytes", {"model.onnx.data": files})
    return Trial(Candidate("merge", scheme), made, error)


def test_the_quickest_of_the_front_is_taken() -> None:
    slow, quick = trial("none", 20, 90, 0.0), trial("int8", 5, 23, 0.01)
    advice = choose([slow, quick])
    assert advice.chosen.candidate == quick.candidate
    assert [t.pareto for t in advice.trials] == [True, True]
    assert advice.command == "edge-lra export --merge --quantize int8"


def test_of_those_as_quick_the_smallest_is_taken() -> None:
    large, small = trial("none", 5.0, 90, 0.0), trial("int4", 5.0, 19, 0.1)
    assert choose([large, small]).chosen.candidate.scheme == "int4"


def test_what_is_worse_in_everything_is_not_on_the_front() -> None:
    worse, better = trial("int4", 9, 30, 0.1, 95.0), trial("int8", 5, 23, 0.01)
    assert [t.pareto for t in choose([worse, better]).trials] == [False, True]


def test_nothing_made_is_an_error_that_says_why() -> None:
    with pytest.raises(EdgeError, match="found no candidate that passes, expected one; why"):
        choose([Trial(Candidate("merge", "int4"), refused="why")])


def with_layers(found: Trial, milliseconds: list[float]) -> Trial:
    layers = tuple(Layer(f"layer {i}", 10, ms) for i, ms in enumerate(milliseconds))
    assert found.entry is not None
    object.__setattr__(found.entry.measured, "layers", (Layer("embeddings", 3, 9.0), *layers))
    return found


def test_layers_that_are_slower_than_in_float_are_kept_in_float() -> None:
    exact = with_layers(trial("none", 20, 90, 0.0), [4.0, 4.0, 4.0])
    rounded = with_layers(trial("int8", 9, 23, 0.01), [2.0, 5.0, 2.0])
    (mix,) = mixes([exact, rounded], "encoder.layer.{i}.")
    assert mix.keep_float == ("*encoder.layer.1.*",) and "slower" in mix.why


def test_a_scheme_that_is_slower_in_most_layers_is_not_mixed() -> None:
    exact = with_layers(trial("none", 20, 90, 0.0), [4.0, 4.0, 4.0])
    rounded = with_layers(trial("int4", 30, 19, 0.1), [5.0, 5.0, 2.0])
    assert list(mixes([exact, rounded], "encoder.layer.{i}.")) == []


def test_the_layer_that_hurts_most_is_kept_in_float_where_a_gate_failed() -> None:
    candidate = Candidate("factored", "int4")
    refused = Trial(candidate, refused="found kl_mean 1", worst_layers=(2, 0, 1))
    (mix,) = mixes([refused], "encoder.layer.{i}.")
    assert mix == Candidate("factored", "int4", ("*encoder.layer.2.*",), mix.why)
    assert mix.options() == [
        "--factored", "--quantize", "int4", "--keep-float", "*encoder.layer.2.*",
    ]  # fmt: skip


@pytest.fixture
def project(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tiny / "cache"))
    settings = 'model = "model"\n[[adapter]]\npath = "adapter"\n[gates]\nkl_mean = 1.0\n'
    (tiny / "edge-lra.toml").write_text(settings + "top1_agreement = 0.5\n")
    return tiny


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["profile", "--advise", *arguments], terminal_width=80)


def test_the_advised_command_makes_the_bundle(project: Path) -> None:
    result = invoke("--shape", "1x8", "--runs", "3", "--json", "-")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    validator("profile-advise").validate(found)
    tried = {tuple(t["options"]) for t in found["trials"] if "--keep-float" not in t["options"]}
    modes = ("--merge", "--factored")
    assert tried == {(mode, "--quantize", scheme) for mode in modes for scheme in SCHEMES}
    made = [t for t in found["trials"] if not t["refused"]]
    assert made and all(t["kind"] == "measured" and t["p50_ms"] > 0 for t in made)
    exact = next(t for t in made if t["options"] == ["--merge", "--quantize", "none"])
    assert exact["error"] < 1e-6  # of float32, as the factored one's is
    assert all(t["error"] > exact["error"] for t in made if "none" not in t["options"])
    (chosen,) = [t for t in found["trials"] if t["chosen"]]
    assert chosen["pareto"]
    assert not (project / "advice.edge").exists() and not list(project.glob("*.edge"))
    words = found["command"].split()
    assert CliRunner().invoke(main, words[1:]).exit_code == 0


def test_weighted_adapters_are_merged_or_refused(project: Path) -> None:
    settings = (project / "edge-lra.toml").read_text()
    weighted = settings.replace('path = "adapter"', 'path = "adapter"\nweight = 0.5')
    (project / "edge-lra.toml").write_text(weighted)
    result = invoke("--shape", "1x8", "--device", "rpi5", "--json", "-")
    assert result.exit_code == 0, result.stderr
    for found in json.loads(result.stdout)["trials"]:
        assert bool(found["refused"]) == ("--factored" in found["options"])


def test_a_device_that_is_not_here_is_advised_by_its_estimate(project: Path) -> None:
    result = invoke("--shape", "1x8", "--device", "rpi4")
    assert result.exit_code == 0, result.stderr
    assert "Estimated from the data sheet: Raspberry Pi 4" in result.stdout
    assert "edge-lra export --" in result.stdout.splitlines()[-1]
    assert max(map(len, result.stdout.splitlines()[:-1])) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("b.edge",), "--advise: found a bundle b.edge, expected none"),
        (("--html", "x.html"), "--advise: found --html, expected none"),
        (("--estimate",), "--advise: found --estimate, expected none"),
        (("--keep",), "--keep: found no --target"),
        (("--device", "rpi4", "--device", "rpi5"), "--advise: found several devices"),
    ],
)
def test_what_it_would_not_honour_is_refused(
    project: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 1 and message in result.stderr


def test_a_folder_without_a_project_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke()
    assert result.exit_code == 1 and "expected an edge-lra.toml" in result.stderr


def test_a_project_that_cannot_be_exported_is_told_before_any_work(project: Path) -> None:
    (project / "edge-lra.toml").write_text('model = "nowhere/at/all"\n')
    result = invoke()
    assert result.exit_code == 1 and "nowhere/at/all" in result.stderr
