"""What a person reads at 80 columns."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge_lra.cli import main
from edge_lra.cli.run import describe

EXPORT = ("export", "--model", "model", "--adapter", "adapter", "--out", "b.edge")


@pytest.fixture(autouse=True)
def _columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def shown(*arguments: str) -> str:
    """Run a command; no line it prints may be longer than 80 characters."""
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 80, result.stdout
    return result.stdout


def words(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_an_adapter_is_grouped_by_kind_of_module(tiny: Path) -> None:
    text = shown("inspect", "adapter")
    assert "2 x bert.encoder.layer.*.attention.self.query, rank 4, 32→32\n" in re.sub(
        " +\n", "\n", text
    )
    assert "layer.0." not in text
    for fact in ("peft type LORA", "r 4", "lora alpha 16", "classifier.weight [2, 32]", "F32"):
        assert fact in words(text)
    assert re.search(r"total \d+\.\d KiB", words(text))


def test_a_checkpoint_is_grouped_by_kind_of_tensor(tiny: Path) -> None:
    text = words(shown("inspect", "model"))
    assert "2 x encoder.layer.*.output.dense.weight F32[32, 64]" in text
    assert "layers 2, heads 4" in text


def test_a_bundle_shows_its_proof_and_its_files(tiny: Path) -> None:
    shown(*EXPORT, "--factored")
    text = words(shown("inspect", "b.edge"))
    assert re.search(r"adapter: kl_mean \S+ \(0\.01\)", text)
    assert "adapters adapter, rank 4: LABEL_0, LABEL_1" in text
    assert re.search(r"\d+ B tokenizer_config\.json|KiB tokenizer_config\.json", text)
    shown(*EXPORT, "--merge", "--no-verify")
    text = words(shown("inspect", "b.edge"))
    assert "fidelity (limit) not verified" in text
    assert "adapter inputs" not in text


def test_a_long_adapter_name_is_not_cut(tiny: Path) -> None:
    name = "a-rather-long-name-of-an-adapter-for-a-table"
    Path("adapter").rename(name)
    text = shown("export", "--model", "model", "--adapter", name, "--out", "b.edge")
    assert "│" in text and "…" not in text


def test_verify_shows_where_the_error_comes_from_on_one_screen(tiny: Path) -> None:
    Path("edge-lra.toml").write_text('model = "./model"\n[[adapter]]\npath = "adapter"\n')
    Path("t.txt").write_text("a fine film\nbad\n")
    shown(*EXPORT, "--no-verify")
    text = shown("verify", "b.edge", "--data", "t.txt")
    assert len(text.splitlines()) <= 40
    layers = re.findall(r"^ +([01])((?: +[\d.]+){7}) *$", text, re.MULTILINE)
    assert [layer for layer, _ in layers] == ["0", "1"]
    worst = re.findall(r"^[01] (query|key|value|output|up|down).* 0, \+", text, re.MULTILINE)
    assert len(worst) == 5
    assert re.search(r"adapter: [\d.]+ % of its change is left in the weights", text)


def test_a_failed_gate_shows_where_the_error_comes_from(tiny: Path) -> None:
    project = 'model = "./model"\n[gates]\nkl_mean = 1e-30\n[[adapter]]\npath = "adapter"\n'
    Path("edge-lra.toml").write_text(project)
    Path("t.txt").write_text("a fine film\nbad\n")
    shown(*EXPORT, "--no-verify")
    result = CliRunner().invoke(main, ["verify", "b.edge", "--data", "t.txt"])
    assert result.exit_code == 3 and "found kl_mean" in result.stderr
    assert "The worst products" in result.stdout


def test_verify_says_what_it_held(tiny: Path) -> None:
    shown(*EXPORT)
    assert "8 golden cases: within 0 of the outputs at export" in shown("verify", "b.edge")
    shown(*EXPORT, "--no-verify")
    assert "No golden cases: it was exported without verification." in shown("verify", "b.edge")


def test_large_outputs_are_shortened(tiny: Path) -> None:
    shown("export", "--model", "model", "--no-verify", "--out", "b.edge")
    np.savez("x.npz", input_ids=np.full((2, 30), 9), attention_mask=np.ones((2, 30), np.int64))
    text = shown("run", "b.edge", "--input", "x.npz")
    assert text.startswith("last_hidden_state [2, 30, 32]\n")
    assert "..." in text and len(text) < 2000


def test_an_entity_names_its_text_and_a_text_without_one_shows() -> None:
    entity = {"label": "LOC", "score": 0.5, "text": "Rome", "start": 0, "end": 4}
    rows = [{"text": "Rome is old", "entities": [entity]}, {"text": "Nowhere", "entities": []}]
    assert describe(rows) == ["LOC\t0.5000\tRome\tRome is old", "-\t-\t-\tNowhere"]
