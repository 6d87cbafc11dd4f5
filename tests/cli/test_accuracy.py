"""Labelled text: `export` and `verify` show the task's accuracy, and a limit holds it."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_lra.cli import main
from edge_lra.cli.fidelity import accuracy_lines
from tests.cli.documents import document

EXPORT = ("export", "--model", "model", "--adapter", "adapter", "--labels", "down,up")
KEYS = {
    "labelled_rows",
    "accuracy_float",
    "accuracy",
    "accuracy_drop",
    "accuracy_drop_low",
    "accuracy_drop_high",
    "accuracy_resolution",
}


@pytest.fixture(autouse=True)
def project(data: Path, tiny: Path) -> Path:
    """Return labelled rows of a project whose gates leave room for a tiny model's rounding."""
    config = 'model = "./model"\n[[adapter]]\npath = "adapter"\n[gates]\nkl_mean = 1\n'
    (tiny / "edge-lra.toml").write_text(config + "top1_agreement = 0\n")
    return data


def write(*rows: str) -> str:
    Path("own.tsv").write_text("text\tlabel\n" + "".join(f"{row}\n" for row in rows))
    return "own.tsv"


def ask(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.stderr or result.stdout


def test_both_commands_measure_every_labelled_row(project: Path) -> None:
    metrics = document(*EXPORT, "--data", project.name, "--out", "b.edge")["manifest"]["fidelity"]
    found = metrics["reports"][0]["metrics"]
    assert found.keys() >= KEYS and found["labelled_rows"] == 24  # the others calibrate
    assert 0 < found["accuracy_float"] < 1 and found["accuracy_resolution"] >= 12.5
    again = document("verify", "b.edge", "--data", project.name)["fidelity"]["reports"][0]
    assert again["metrics"] == found


def test_a_bundle_of_floats_loses_nothing(project: Path) -> None:
    options = ("--quantize", "none", "--data", project.name, "--out", "b.edge")
    code, text = ask(*EXPORT, *options)
    assert code == 0
    shares = re.search(r"48 labelled rows: float (\S+) %, bundle (\S+) %", text)
    assert shares and shares[1] == shares[2]
    assert "no points lost, 95 % interval of the drop 0.00 to 0.00" in text
    assert "too few rows to tell: a drop of less than 6.2 points would not show" in text


def test_labels_are_those_of_the_adapter_that_is_on(project: Path, tiny: Path) -> None:
    document(*EXPORT, "--factored", "--data", project.name, "--out", "b.edge")
    other = ("adapter", "add", "b.edge", "two=adapter", "--data", project.name)
    found = document(*other, "--labels", "up,down")["manifest"]["fidelity"]["reports"]
    one, two = (report["metrics"]["accuracy_float"] for report in found)
    assert one + two == pytest.approx(1) and one != two


def test_all_labelled_rows_are_read_and_256_of_others() -> None:
    rows = ["a film good\tup", "a film bad\tdown"] * 150
    options = ("--quantize", "none", "--out", "b.edge")
    found = document(*EXPORT, *options, "--data", write(*rows))["manifest"]["fidelity"]
    assert found["reports"][0]["texts"] == 300
    assert found["reports"][0]["metrics"]["accuracy_resolution"] == 1.0
    found = document("verify", "b.edge", "--data", write(*["a film\t"] * 300))["fidelity"]
    assert found["reports"][0]["texts"] == 256


def test_rows_without_a_label_do_not_count() -> None:
    data = write("a film good\tup", "a film\t", "a film bad\tdown")
    found = document(*EXPORT, "--data", data, "--out", "b.edge")["manifest"]["fidelity"]
    assert (found["reports"][0]["texts"], found["reports"][0]["metrics"]["labelled_rows"]) == (3, 2)


def test_a_label_that_is_misspelt_is_one_line() -> None:
    code, text = ask(*EXPORT, "--data", write("a film good\tup", "a film bad\tdwon"))
    assert code == 1
    expected = "Error: own.tsv: row 2: found label 'dwon', expected one of down, up; "
    assert text.startswith(expected) and text.count("\n") == 1


def test_labels_of_another_model_are_left_out_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = write("a film good\tpositive", "a film bad\tnegative")
    with caplog.at_level(logging.WARNING):
        found = document(*EXPORT, "--data", data, "--out", "b.edge")["manifest"]["fidelity"]
    assert not found["reports"][0]["metrics"].keys() & KEYS
    line = "own.tsv: its labels (negative, positive) are none of the model's (down, up)"
    assert [line in message for message in caplog.messages].count(True) == 1


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_other_kinds_of_classification_claim_nothing(project: Path, problem: str) -> None:
    file = Path("model/config.json")
    file.write_text(file.read_text().replace("{", f'{{"problem_type": "{problem}",', 1))
    options = ("--quantize", "none", "--data", project.name, "--out", "b.edge")
    Path("edge-lra.toml").unlink()
    found = document(*EXPORT, *options)["manifest"]
    assert found["problem_type"] == problem
    assert not found["fidelity"]["reports"][0]["metrics"].keys() & KEYS


# ---- as a gate -----------------------------------------------------------------------------


def test_a_limit_on_the_drop_is_a_gate(project: Path) -> None:
    with Path("edge-lra.toml").open("a") as file:
        file.write("accuracy_drop = 0\n")
    options = ("--data", project.name, "--out", "b.edge")
    found = document(*EXPORT, "--quantize", "none", *options)["manifest"]["fidelity"]
    assert found["reports"][0]["gates"][-1] == {
        "name": "accuracy_drop",
        "value": 0.0,
        "limit": 0.0,
        "passed": True,
    }
    config = Path("edge-lra.toml")
    config.write_text(config.read_text().replace("accuracy_drop = 0", "accuracy_drop = -100"))
    code, text = ask(*EXPORT, "--quantize", "none", *options, "--out", "c.edge")
    assert code == 3 and "accuracy_drop 0 (limit -100)" in text
    assert not Path("c.edge").exists()


def test_a_limit_on_the_drop_wants_labelled_text() -> None:
    with Path("edge-lra.toml").open("a") as file:
        file.write("accuracy_drop = 1\n")
    code, text = ask(*EXPORT, "--data", write("a film\t"), "--out", "b.edge")
    assert code == 1
    assert text.startswith("Error: gates: found accuracy_drop, expected text with the model's")


def test_a_report_of_an_older_bundle_has_no_line() -> None:
    assert list(accuracy_lines({"adapter": None, "metrics": {"kl_mean": 0.1}}, False)) == []
