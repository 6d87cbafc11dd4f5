"""A user's own module by `module:factory`, held against itself and PEFT on it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import peft
import pytest
import torch
from click.testing import CliRunner

from edge_lra.cli import main
from edge_lra.pipeline import ExportRequest, export
from edge_lra.runner import Runner

CODE = '''
import torch


class Digits(torch.nn.Module):
    """Convolutions with a batch norm, and linears behind."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.hidden = torch.nn.Linear(8 * 64, 64)
        self.classifier = torch.nn.Linear(64, 10)

    def forward(self, pixels, scale):
        x = torch.relu(self.norm(self.conv(pixels * scale)))
        x = torch.relu(self.hidden(x.flatten(1)))
        return {"logits": self.classifier(x), "features": x}


class Twice(torch.nn.Module):
    """One linear, called twice."""

    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(16, 16)
        self.last = torch.nn.Linear(16, 4, bias=False)

    def forward(self, x):
        return self.last(torch.tanh(self.line(torch.tanh(self.line(x)))))


def twice():
    torch.manual_seed(0)
    return Twice(), {"x": torch.randn(2, 3, 16)}


def build():
    torch.manual_seed(0)
    module = Digits()
    torch.nn.init.normal_(module.norm.running_mean, std=0.1)
    return module, {"pixels": torch.randn(1, 1, 16, 16), "scale": torch.ones(1, 1, 1, 1)}
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the current folder, with `digits.py` in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "digits.py").write_text(CODE)
    yield tmp_path
    sys.modules.pop("digits", None)


def own_module(folder: Path, factory: str = "build") -> torch.nn.Module:
    scope: dict[str, Callable[[], tuple[torch.nn.Module, object]]] = {}
    exec((folder / "digits.py").read_text(), scope)
    return scope[factory]()[0].eval()


def feeds(batch: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(batch)
    pixels = random.normal(size=(batch, 1, 16, 16)).astype(np.float32)
    return {"pixels": pixels, "scale": np.ones((batch, 1, 1, 1), np.float32)}


def logits(module: torch.nn.Module, batch: int) -> np.ndarray:
    with torch.no_grad():
        given = {name: torch.from_numpy(value) for name, value in feeds(batch).items()}
        found: np.ndarray = module(**given)["logits"].numpy()
    return found


def lora(folder: Path, with_lora: Callable[..., Path]) -> Path:
    sites = ["conv", "hidden", "classifier"]
    return with_lora(own_module(folder), folder / "lora", target_modules=sites)


def test_a_float_module_answers_as_it_does_in_torch(folder: Path) -> None:
    bundle = export(ExportRequest(folder / "d.edge", "digits:build", scheme="none"))
    for batch in (1, 3):
        found = Runner.load(bundle).run(feeds(batch))["logits"]
        np.testing.assert_allclose(found, logits(own_module(folder), batch), atol=1e-4)


def test_merged_loras_of_convolutions_and_linears_answer_as_peft_does(
    folder: Path, with_lora: Callable[..., Path]
) -> None:
    adapter = lora(folder, with_lora)
    request = ExportRequest(
        folder / "d.edge", "digits:build", [("lora", adapter)], scheme="none", name="d"
    )
    tuned = peft.PeftModel.from_pretrained(own_module(folder), adapter).eval()
    found = Runner.load(export(request)).run(feeds(2))["logits"]
    np.testing.assert_allclose(found, logits(tuned, 2), atol=1e-4)


def test_factored_loras_answer_as_peft_does_and_switch_off(
    folder: Path, with_lora: Callable[..., Path]
) -> None:
    module = own_module(folder)
    adapter = with_lora(module, folder / "lora", target_modules=["hidden", "classifier"])
    request = ExportRequest(
        folder / "d.edge", "digits:build", [("lora", adapter)], mode="factored", scheme="none"
    )
    runner = Runner.load(export(request))
    tuned = peft.PeftModel.from_pretrained(own_module(folder), adapter).eval()
    np.testing.assert_allclose(runner.run(feeds(2))["logits"], logits(tuned, 2), atol=1e-4)
    plain = runner.run(feeds(2), adapter=None)["logits"]
    np.testing.assert_allclose(plain, logits(own_module(folder), 2), atol=1e-4)


def test_the_commands_export_run_and_profile_a_module(folder: Path) -> None:
    run = CliRunner().invoke(main, ["export", "--model", "digits:build"])
    assert run.exit_code == 0, run.output
    manifest = json.loads((folder / "digits.edge" / "manifest.json").read_text())
    assert (manifest["family"], manifest["task"]) == ("Digits", "custom")
    gated = {gate["name"] for gate in manifest["fidelity"]["reports"][0]["gates"]}
    assert gated == {"kl_mean", "top1_agreement", "cosine_min"}
    assert "conv" in manifest["float_sites"]
    np.savez(folder / "x.npz", **feeds(2))
    run = CliRunner().invoke(main, ["run", "--input", "x.npz", "--json", "-"])
    results = json.loads(run.stdout)["results"]
    assert [np.shape(row["values"]) for row in results] == [(2, 10), (2, 64)]
    run = CliRunner().invoke(main, ["profile", "--shape", "2x8", "--json", "-"])
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(main, ["verify"])
    assert run.exit_code == 0, run.output


def test_the_same_module_gives_the_same_bytes(folder: Path) -> None:
    bundles = [
        export(ExportRequest(folder / f"{i}.edge", "digits:build", name="d", verify=False))
        for i in range(2)
    ]
    for name in ("model.onnx", "model.onnx.data"):
        assert (bundles[0] / name).read_bytes() == (bundles[1] / name).read_bytes()


def test_weights_are_read_from_a_file(folder: Path) -> None:
    module = own_module(folder)
    torch.nn.init.normal_(module.hidden.weight, std=0.3)
    torch.save(module.state_dict(), folder / "digits.bin")
    with (folder / "digits.py").open("a") as file:
        file.write(
            "\n\ndef trained():\n    module, inputs = build()\n"
            "    return {'module': module, 'inputs': inputs, 'weights': 'digits.bin'}\n"
        )
    bundle = export(ExportRequest(folder / "d.edge", "digits:trained", scheme="none"))
    found = Runner.load(bundle).run(feeds(2))["logits"]
    np.testing.assert_allclose(found, logits(module, 2), atol=1e-4)


@pytest.mark.parametrize("mode", ["merge", "factored"])
def test_a_module_that_is_called_twice_is_stored_and_adapted_once(
    folder: Path, with_lora: Callable[..., Path], mode: str
) -> None:
    module = own_module(folder, "twice")
    adapter = with_lora(module, folder / "lora", target_modules=["line", "last"])
    request = ExportRequest(
        folder / "t.edge", "digits:twice", [("lora", adapter)], mode=mode, scheme="none"
    )
    bundle = export(request)
    tuned = peft.PeftModel.from_pretrained(own_module(folder, "twice"), adapter).eval()
    x = np.random.default_rng(0).normal(size=(5, 3, 16)).astype(np.float32)
    with torch.no_grad():
        expected = tuned(x=torch.from_numpy(x)).numpy()
    found = Runner.load(bundle).run({"x": x})["output"]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    names = [i.name for i in ir.load(bundle / "model.onnx").graph.inputs]
    assert len(names) == len(set(names)) == (5 if mode == "factored" else 1)
