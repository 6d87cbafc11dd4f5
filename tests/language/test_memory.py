"""How a model is verified follows from the memory there is; what cannot fit is refused first."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_lra.checkpoint import Checkpoint
from edge_lra.errors import EdgeError
from edge_lra.language import memory
from edge_lra.language.memory import Sizes, Way, way_for
from edge_lra.pipeline import ExportRequest, export
from edge_lra.tensor_files import TensorInfo
from tests.graph.decoders import random_model
from tests.language.models import write_model

GIB = 2**30
# The shape of a 7B Llama in bf16.
SEVEN = {
    "model.embed_tokens.weight": TensorInfo("", (32000, 4096), "BF16"),
    "lm_head.weight": TensorInfo("", (32000, 4096), "BF16"),
    **{f"model.layers.{i}.weight": TensorInfo("", (202_383_360, 1), "BF16") for i in range(32)},
}


@pytest.mark.parametrize(
    ("family", "table"),  # gpt2 has more positions than tokens
    [("llama", 96 * 64), ("gpt2", 128 * 64), ("gemma3", 96 * 64)],
)
def test_sizes_are_counted_by_layer(tmp_path: Path, family: str, table: int) -> None:
    model = random_model(family)
    model.save_pretrained(tmp_path)
    sizes = Sizes.of(Checkpoint(tmp_path).tensors)
    assert sizes.layers == model.config.num_hidden_layers
    assert sizes.whole == sum(p.numel() for p in model.parameters())
    layers = next(m for m in model.modules() if type(m).__name__ == "ModuleList")
    assert sizes.layer == max(sum(p.numel() for p in layer.parameters()) for layer in layers)
    assert (sizes.table, sizes.table_bytes) == (table, 4 * table)


@pytest.mark.parametrize(
    ("free_gib", "way"),
    [
        (None, Way(True)),
        (40.0, Way(True)),
        (12.0, Way(False)),
        (5.0, Way(False, 11)),
        (2.8, Way(False, 1)),
    ],
)
def test_a_smaller_memory_takes_a_leaner_way(free_gib: float | None, way: Way) -> None:
    free = None if free_gib is None else int(free_gib * GIB)
    assert way_for(Sizes.of(SEVEN), 7 * GIB, "int8", free) == way


def test_what_does_not_fit_at_all_is_told_with_its_figures() -> None:
    message = r"verification: found 2\.00 GiB of free memory, expected 2\.\d\d .*7\.70 as a whole"
    with pytest.raises(EdgeError, match=message):
        way_for(Sizes.of(SEVEN), 7 * GIB, "int8", 2 * GIB)


def test_an_export_that_cannot_fit_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_model(tmp_path / "base")
    monkeypatch.setattr(memory, "available_bytes", lambda: 300 << 20)
    with pytest.raises(EdgeError, match=r"verification: found 0\.29 GiB .*--no-verify"):
        export(ExportRequest(tmp_path / "x.edge", str(base)))
    export(ExportRequest(tmp_path / "y.edge", str(base), verify=False))
    monkeypatch.setattr(memory, "available_bytes", lambda: 100 << 20)
    with pytest.raises(EdgeError, match=r"export: found 0\.10 GiB .*largest weight"):
        export(ExportRequest(tmp_path / "x.edge", str(base), verify=False))
    assert not (tmp_path / "x.edge").exists()
