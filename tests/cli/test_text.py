"""What the command line says about the text it was given."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from edge_lra.cli import main

LONG = "a fine film " * 30


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    return result


def report() -> dict[str, object]:
    manifest = json.loads(Path("b.edge/manifest.json").read_text())
    found: dict[str, object] = manifest["fidelity"]["reports"][0]
    return found


def export(*options: str) -> Result:
    return invoke("export", "--model", "model", "--adapter", "adapter", "--out", "b.edge", *options)


def test_the_report_counts_texts_that_were_cut(tiny: Path) -> None:
    Path("t.txt").write_text(f"a film\n{LONG}\nbad\n")
    result = export("--data", "t.txt")
    assert (report()["texts"], report()["truncated"]) == (3, 1)
    assert "3 texts, t.txt, 1 of them cut" in result.stdout


def test_a_run_says_how_many_texts_were_cut(tiny: Path) -> None:
    export("--no-verify")
    command = [sys.executable, "-m", "edge_lra", "run", "b.edge", "--text", "bad"]
    found = [
        subprocess.run([*command, *more], capture_output=True, text=True, check=True)
        for more in ((), ("--text", LONG))
    ]
    assert found[0].stderr == ""
    assert found[1].stderr == "WARNING: 1 of 2 texts were cut at 40 tokens\n"
    assert found[1].stdout.count("LABEL_") == 2


def test_random_ids_serve_only_without_a_tokenizer_and_are_named(tiny: Path) -> None:
    Path("model/tokenizer.json").unlink()
    export("--quantize", "none")
    assert report()["source"] == "random ids (no tokenizer)"
    Path("t.txt").write_text("a film\n")
    command = ["export", "--model", "model", "--adapter", "adapter", "--data", "t.txt"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "found no tokenizer.json, expected one for t.txt" in result.stderr
