"""`edge-lra prepack`: its JSON, what a person reads, and its refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_lra.cli import main
from tests.cli.documents import document

Refused = Callable[..., str]


@pytest.fixture
def bundle(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the merged bundle `mood.edge`, written last in the current folder."""
    monkeypatch.setenv("COLUMNS", "80")
    options = ("--model", "model", "--adapter", "adapter", "--no-verify", "--out", "mood.edge")
    result = CliRunner().invoke(main, ["export", *options])
    assert result.exit_code == 0, result.stderr
    return Path("mood.edge")


def test_the_document_keeps_to_its_schema(bundle: Path) -> None:
    found = document("prepack")
    assert (found["bundle"], found["out"]) == ("mood.edge", "mood-prepacked.edge")
    assert found["before_bytes"] < found["after_bytes"]
    assert found["prepacked"] == document("inspect", "mood-prepacked.edge")["prepacked"]
    assert document("inspect", "mood.edge")["prepacked"] is None


def test_a_person_reads_what_it_is_for_and_what_it_takes(bundle: Path) -> None:
    result = CliRunner().invoke(main, ["prepack", str(bundle), "--out", "x.edge"])
    first, second = result.stdout.splitlines()
    assert first.startswith("x.edge written for ") and "onnxruntime 1." in first
    assert second.endswith("the packed copies are in the file") and " MB of graph" in second


def test_verify_says_where_the_exact_integers_are(bundle: Path) -> None:
    CliRunner().invoke(main, ["prepack"])
    result = CliRunner().invoke(main, ["verify", "mood-prepacked.edge"])
    assert result.exit_code == 0
    assert "not carried; verify the bundle it was made from" in result.stdout


def test_the_bundle_written_last_stays_the_one_it_was_made_of(bundle: Path) -> None:
    for _ in range(2):  # the second replaces the first's twin
        assert document("prepack")["bundle"] == "mood.edge"


def test_the_projects_device_is_packed_for(bundle: Path, refused: Refused) -> None:
    Path("edge-lra.toml").write_text('device = "browser"\n')
    assert "neither here nor emulated" in refused("prepack")


def test_a_folder_that_is_no_bundle_is_kept(bundle: Path, refused: Refused) -> None:
    Path("other").mkdir()
    assert "found something that is not a bundle" in refused("prepack", "--out", "other")
    assert CliRunner().invoke(main, ["prepack", "--out", "other", "--force"]).exit_code == 0
