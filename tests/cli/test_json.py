"""Every JSON document keeps to its committed schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import jsonschema
import numpy as np
import peft
import pytest
import torch
import transformers
from click.testing import CliRunner

from edge_lra.cli import main
from edge_lra.cli.common import write_json
from edge_lra.errors import EdgeError
from tests.cli.documents import SCHEMAS, document, validator

EXPORT = ("export", "--model", "model", "--adapter", "adapter")


def commands(group: click.Group, path: tuple[str, ...] = ()) -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        inner = isinstance(command, click.Group)
        found |= commands(command, (*path, name)) if inner else {"-".join((*path, name)): command}
    return found


def test_every_command_has_a_schema_and_takes_json() -> None:
    known = commands(main)
    assert {path.stem for path in SCHEMAS.glob("*.json")} == known.keys() | {
        "manifest",
        "profile-advise",
    }
    for name, command in known.items():
        assert "--json" in [option for p in command.params for option in p.opts], name


# ---- every task, both modes ----------------------------------------------------------------

HEADS = {
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
    "FEATURE_EXTRACTION": "",
}
Train = Callable[..., None]


@pytest.fixture
def train(tiny: Path) -> Train:
    """Return a function that writes an adapter of some task to `adapter`."""

    def write(task_type: str, outputs: int, problem_type: str | None) -> None:
        file = tiny / "model/config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"problem_type": problem_type}))
        options = {"num_labels": outputs} if outputs else {}
        kind = getattr(transformers, f"AutoModel{HEADS[task_type]}")
        lora = peft.LoraConfig(task_type=task_type, r=2, target_modules=["query", "value"])
        torch.manual_seed(3)
        model = peft.get_peft_model(kind.from_pretrained(tiny / "model", **options), lora)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(tiny / "adapter")

    return write


@pytest.mark.parametrize("mode", ["--merge", "--factored"])
@pytest.mark.parametrize(
    ("task", "task_type", "outputs", "problem_type", "key"),
    [
        ("sequence-classification", "SEQ_CLS", 3, None, "scores"),
        ("sequence-classification", "SEQ_CLS", 3, "multi_label_classification", "scores"),
        ("sequence-classification", "SEQ_CLS", 1, "regression", "scores"),
        ("token-classification", "TOKEN_CLS", 3, None, "entities"),
        ("question-answering", "QUESTION_ANS", 2, None, "start"),
        ("feature-extraction", "FEATURE_EXTRACTION", 0, None, "vector"),
        ("sentence-embedding", "FEATURE_EXTRACTION", 0, None, "vector"),
    ],
)
def test_what_an_export_of_each_task_gives(
    train: Train,
    mode: str,
    task: str,
    task_type: str,
    outputs: int,
    problem_type: str | None,
    key: str,
) -> None:
    train(task_type, outputs, problem_type)
    options = (mode, "--quantize", "none", "--task", task, "--out", "b.edge")
    found = document(*EXPORT, *options)["manifest"]
    assert found == json.loads(Path("b.edge/manifest.json").read_text())
    validator("manifest").validate(found)
    assert (found["task"], bool(found["fidelity"])) == (task, True)
    spans = task == "question-answering"
    text = ("--question", "what is bad", "--context", "this film is not good .")
    results = document("run", "b.edge", *(text if spans else ("--text", "a film", "--text", "bad")))
    assert [key in result for result in results["results"]] == [True] * (1 if spans else 2)
    np.savez("x.npz", input_ids=np.array([[2, 5, 3]]), attention_mask=np.ones((1, 3), np.int64))
    arrays = document("run", "b.edge", "--input", "x.npz")["results"]
    assert [row["output"] for row in arrays] == [node["name"] for node in found["outputs"]]


def test_an_export_without_proof_or_adapter(tiny: Path) -> None:
    for options in (EXPORT, EXPORT[:3]):
        found = document(*options, "--no-verify", "--out", "b.edge")["manifest"]
        assert found["fidelity"] is None and found["golden"]["count"] == 0


# ---- the other commands --------------------------------------------------------------------


def test_what_a_bundle_gives(tiny: Path) -> None:
    Path("edge-lra.toml").write_text('model = "./model"\n[[adapter]]\npath = "adapter"\n')
    Path("t.txt").write_text("a film\nbad\n")
    document("export", "--factored", "--out", "b.edge")
    assert document("verify", "b.edge")["fidelity"] is None
    whole = document("verify", "b.edge", "--data", "t.txt")
    assert whole["fidelity"]["reports"][0]["source"] == "t.txt"
    assert [layer["layer"] for layer in whole["sources"]["layers"]] == [0, 1]
    assert whole["sources"]["worst"][0]["remedies"]["float32"]["extra_bytes"] > 0
    assert document("inspect", "b.edge")["kind"] == "bundle"
    shapes = ("--shape", "1x4", "--shape", "2x4", "--runs", "3")
    assert document("profile", "b.edge", *shapes)["ratios"] == []
    assert len(document("profile", "b.edge", *shapes, "--against", "b.edge")["ratios"]) == 2
    found = document("adapter", "add", "b.edge", "two=adapter")
    assert len(found["manifest"]["fidelity"]["reports"]) == 2


def test_adapters_checkpoints_and_samples(tiny: Path) -> None:
    found = document("inspect", "adapter")
    assert [site["rank"] for site in found["sites"]] == [4] * 4
    assert document("inspect", "model")["parameters"] > 10_000
    assert len(document("sample", "project")["files"]) == 4


# ---- what is no document -------------------------------------------------------------------


def test_a_manifest_that_lacks_an_inner_key_fails(tiny: Path) -> None:
    found = document(*EXPORT, "--no-verify", "--out", "b.edge")
    del found["manifest"]["labels"]
    with pytest.raises(jsonschema.ValidationError, match="labels"):
        validator("export").validate(found)


@pytest.mark.parametrize("to", ["-", "f.json"])
def test_a_failed_gate_gives_no_document(tiny: Path, to: str) -> None:
    Path("edge-lra.toml").write_text("[gates]\nkl_mean = 1e-30\n")
    result = CliRunner().invoke(main, [*EXPORT, "--json", to])
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("Error: adapter adapter: found kl_mean")
    assert result.stderr.count("\n") == 1
    assert not Path("f.json").exists()


def test_a_golden_case_that_fails_gives_no_document(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document(*EXPORT, "--out", "b.edge")
    monkeypatch.setattr("edge_lra.golden.SLACK", 0)
    monkeypatch.setattr("edge_lra.golden._distance", lambda a, b: 1.0)
    result = CliRunner().invoke(main, ["verify", "b.edge", "--json", "-"])
    assert (result.exit_code, result.stdout) == (3, "")
    assert (
        result.stderr.startswith("Error: b.edge: found answers") and result.stderr.count("\n") == 1
    )


def test_a_file_holds_the_same_document(tiny: Path) -> None:
    expected = document("inspect", "adapter")
    result = CliRunner().invoke(main, ["inspect", "adapter", "--json", "f.json"])
    assert "peft type" in result.stdout
    assert json.loads(Path("f.json").read_text()) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_hold_is_an_error(
    value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EdgeError, match="found NaN or Inf, expected finite values"):
        write_json({"values": [value]}, "-")
    assert capsys.readouterr().out == ""
