"""Where a bundle cannot or must not be written: one line, and everything as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_lra.cli import main

Refused = Callable[..., str]
EXPORT = ("export", "--model", "model", "--adapter", "adapter", "--no-verify")


def exported(*options: str) -> str:
    result = CliRunner().invoke(main, [*EXPORT, *options])
    assert result.exit_code == 0, result.stderr
    return result.stderr


def test_a_folder_that_is_no_bundle_is_replaced_by_force_only(refused: Refused, tiny: Path) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    assert "mine: found something that is not a bundle" in refused(*EXPORT, "--out", "mine")
    exported("--out", "mine", "--force")
    assert Path("mine/manifest.json").is_file() and not Path("mine/thesis.txt").exists()


def test_a_file_in_the_place_is_replaced_by_force_only(refused: Refused, tiny: Path) -> None:
    Path("mine").write_text("years of work")
    assert "--force" in refused(*EXPORT, "--out", "mine")
    exported("--out", "mine", "--force")
    names = sorted(path.name for path in tiny.iterdir())
    assert names == [".edge-lra-last", "adapter", "mine", "model"]


@pytest.mark.parametrize("out", ["model", "adapter", "."])
def test_no_force_replaces_what_the_export_reads(refused: Refused, out: str) -> None:
    assert "choose another" in refused(*EXPORT, "--out", out, "--force")


def test_no_force_replaces_a_folder_that_holds_the_data(refused: Refused) -> None:
    Path("texts").mkdir()
    Path("texts/t.txt").write_text("a film\n")
    options = ("--data", "texts/t.txt", "--out", "texts", "--force")
    assert "texts: found texts/t.txt there" in refused(*EXPORT[:-1], *options)


def test_a_place_below_a_file_is_one_line(refused: Refused) -> None:
    Path("file").write_text("")
    assert "file/x.edge cannot be written: Not a dir" in refused(*EXPORT, "--out", "file/x.edge")


def test_a_loop_of_links_is_one_line(refused: Refused) -> None:
    Path("loop").symlink_to("loop")
    assert "loop/x.edge cannot be written" in refused(*EXPORT, "--out", "loop/x.edge")


def test_a_late_failure_takes_the_folders_it_made_with_it(refused: Refused) -> None:
    Path("t.txt").write_text("")
    options = ("--data", "t.txt", "--out", "new/deep/x.edge")
    assert "t.txt: found no text" in refused(*EXPORT[:-1], *options)


def test_a_failed_gate_leaves_nothing(refused: Refused) -> None:
    Path("edge-lra.toml").write_text("[gates]\nkl_mean = 1e-30\n")
    line = refused(*EXPORT[:-1], "--out", "new/x.edge", code=3)
    assert "found kl_mean" in line


@pytest.mark.parametrize(("to", "found"), [("no/x.json", "no folder no"), ("model", "a folder")])
def test_a_place_that_takes_no_json_is_refused_before_the_work(
    refused: Refused, to: str, found: str
) -> None:
    assert f"--json {to}: found {found}" in refused(*EXPORT, "--json", to)


def test_an_export_that_cannot_be_remembered_is_still_good(tiny: Path) -> None:
    Path(".edge-lra-last").mkdir()
    exported("--out", "x.edge")
    assert CliRunner().invoke(main, ["run", "x.edge", "--text", "x"]).exit_code == 0
