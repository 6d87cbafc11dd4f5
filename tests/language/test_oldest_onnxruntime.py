"""Language models in the oldest onnxruntime that their manifest allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_lra.bundle import load_manifest
from edge_lra.pipeline import ExportRequest, export
from tests.language.models import LOOSE, TEXT, write_adapter, write_model
from tests.oldest import run_in

SCRIPT = """
import json, sys
from pathlib import Path
import numpy, onnxruntime
from edge_lra.bundle import load_manifest
from edge_lra.golden import check_golden
from edge_lra.runner import Generator
bundle = Path(sys.argv[1])
found = check_golden(bundle, load_manifest(bundle))
generator = Generator.load(bundle, threads=1, verify="never")
ids = list(range(4, 44))
whole = generator.cache().prefill(ids).copy()
pieces = generator.cache()
for start in (0, 16, 32):
    last = pieces.score(ids[start : start + 16])[-1]
rows = generator.cache(rows=2)
rows.prefill(ids[:7], row=0)
rows.prefill(ids[:39], row=1)
step = rows.step([ids[7], ids[39]])[1]
print(json.dumps({
    "version": onnxruntime.__version__,
    "pieces": float(numpy.abs(last - whole).max()),
    "step": float(numpy.abs(step - whole).max()),
    **found,
}))
"""


@pytest.mark.parametrize(
    ("family", "mode", "scheme", "oldest"),
    [
        ("llama", "merge", "none", "1.20.0"),
        ("gpt2", "merge", "none", "1.20.0"),
        ("llama", "factored", "int8", "1.20.0"),
        ("llama-tied", "factored", "int8-weight-only", "1.23.0"),
        ("gemma2", "merge", "none", "1.24.1"),
        ("mistral", "merge", "int8-weight-only", "1.24.1"),
    ],
)
def test_a_decoder_runs_in_the_oldest_onnxruntime(
    tmp_path: Path, family: str, mode: str, scheme: str, oldest: str
) -> None:
    base = write_model(tmp_path / "base", family)
    adapters: list[tuple[str | None, str | Path]] = []
    if mode == "factored":
        adapters = [(None, write_adapter(tmp_path / "lora", family))]
    (tmp_path / "texts.txt").write_text(TEXT)
    bundle = export(
        ExportRequest(
            tmp_path / "x.edge",
            str(base),
            adapters=adapters,
            mode=mode,
            scheme=scheme,
            data=tmp_path / "texts.txt",
            gates=LOOSE,
        )
    )
    assert load_manifest(bundle)["min_onnxruntime"] == oldest
    found = run_in(oldest, SCRIPT, bundle)
    assert found["cases"] == 4
    tolerance = 1e-5 if scheme == "none" else 0.1
    assert max(found["pieces"], found["step"]) < tolerance
