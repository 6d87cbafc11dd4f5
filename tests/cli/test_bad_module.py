"""Models that cannot be traced: one line each, and nothing left behind."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import peft
import pytest
import torch
import transformers

Refused = Callable[..., str]
NET = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(4, 2)

    def forward(self, x):
        {body}


def build():
    return {returned}
"""
PLAIN = "return self.line(x)"
GOOD = "Net(), {'x': torch.zeros(1, 4)}"


@pytest.fixture
def write(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return a function that writes `net.py` into the current folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def run(body: str = PLAIN, returned: str = GOOD) -> None:
        (tiny / "net.py").write_text(NET.format(body=body, returned=returned))

    yield run
    sys.modules.pop("net", None)


def test_a_module_that_is_not_there(refused: Refused) -> None:
    line = refused("export", "--model", "nowhere.inside:build")
    assert "found no module nowhere" in line


def test_a_module_without_the_factory_lists_what_it_has(
    write: Callable[..., None], refused: Refused
) -> None:
    write()
    line = refused("export", "--model", "net:make")
    assert "found no function 'make'" in line and "Net, build" in line


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("None", "found NoneType, expected (module, inputs)"),
        ("torch.zeros(1), {'x': torch.zeros(1, 4)}", "module: found Tensor"),
        ("Net(), torch.zeros(1, 4)", "inputs: found Tensor"),
        ("Net(), {'y': torch.zeros(1, 4)}", "found 'y', expected forward's arguments x"),
        ("Net(), {'x': torch.zeros(1, 5)}", "did not take its example inputs"),
        ("Net(), {'x': torch.zeros(0, 4)}", "no entries"),
        ("{'module': Net(), 'inputs': {}, 'shape': 1}", "found key 'shape'"),
        (
            "{'module': Net(), 'inputs': {'x': torch.zeros(1, 4)}, 'axes': {'x': {7: 'batch'}}}",
            "axes: x: found {7: 'batch'}",
        ),
        (
            "{'module': Net(), 'inputs': {'x': torch.zeros(1, 4)}, 'task': 'dance'}",
            "task: found 'dance'",
        ),
        (
            "{'module': Net(), 'inputs': {'x': torch.zeros(1, 4)}, "
            "'task': 'sequence-classification'}",
            "expected logits",
        ),
    ],
)
def test_a_factory_that_gives_something_else(
    write: Callable[..., None], refused: Refused, returned: str, found: str
) -> None:
    write(returned=returned)
    assert found in refused("export", "--model", "net:build")


def test_a_path_that_depends_on_the_data_names_its_line(
    write: Callable[..., None], refused: Refused
) -> None:
    write(body="return self.line(x) if x.sum() > 0 else x")
    line = refused("export", "--model", "net:build")
    assert "net.py:11" in line and "torch.where" in line


def test_an_output_that_is_no_tensor(write: Callable[..., None], refused: Refused) -> None:
    write(body="return {'y': self.line(x), 'n': 3}")
    assert "found 3 for output n" in refused("export", "--model", "net:build")


def test_an_adapter_for_other_sites(
    write: Callable[..., None], refused: Refused, tiny: Path
) -> None:
    write()
    other = torch.nn.Sequential(torch.nn.Linear(4, 2))
    config = peft.LoraConfig(target_modules=["0"])
    peft.get_peft_model(other, config).save_pretrained(tiny / "other")
    line = refused("export", "--model", "net:build", "--adapter", "other")
    assert "found no weight of this name" in line


def test_an_adapter_of_a_convolution_cannot_be_factored(
    write: Callable[..., None], refused: Refused, tiny: Path
) -> None:
    write(returned="torch.nn.Sequential(torch.nn.Conv1d(4, 4, 3)), {'input': torch.zeros(1, 4, 8)}")
    net = torch.nn.Sequential(torch.nn.Conv1d(4, 4, 3))
    peft.get_peft_model(net, peft.LoraConfig(target_modules=["0"])).save_pretrained(tiny / "conv")
    line = refused("export", "--model", "net:build", "--adapter", "conv", "--factored")
    assert "use --merge" in line


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"model_type": "dreamt"}, "package.module:factory"),
        ({"model_type": "opt", "architectures": ["OPTForCausalLM"]}, "generates text"),
        ({"model_type": "bart"}, "transformers has no encoder"),
        ({"model_type": "wav2vec2"}, "which reads input_values"),
    ],
)
def test_an_architecture_that_is_not_traced_is_named(
    refused: Refused, tiny: Path, settings: dict[str, object], found: str
) -> None:
    (tiny / "model/config.json").write_text(json.dumps(settings))
    line = refused("export", "--model", "model")
    assert found in line and str(settings["model_type"]) in line.lower()


def test_a_checkpoint_without_the_tasks_head(refused: Refused, tiny: Path) -> None:
    config = transformers.ElectraConfig(
        vocab_size=20, embedding_size=8, hidden_size=8, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=8,
    )  # fmt: skip
    transformers.ElectraModel(config).save_pretrained(tiny / "electra")
    line = refused("export", "--model", "electra", "--task", "sequence-classification")
    assert "found no tensor 'classifier." in line


@pytest.mark.parametrize(
    "option",
    [
        ("--context", "8"),
        ("--adapter-dtype", "fp16"),
        ("--without", "gptq"),
        ("--with", "refit"),
        ("--extra-rank", "4"),
    ],
)
def test_an_option_of_families_with_a_recipe(
    write: Callable[..., None], refused: Refused, option: tuple[str, str]
) -> None:
    write()
    name = option[0].removeprefix("--").replace("-", " ")
    line = refused("export", "--model", "net:build", *option)
    assert f"{name}: found {option[1]} for a model that is traced" in line
