"""Float factors beside rounded weights, for what rounding took off them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_lra.attribution.report import attribute
from edge_lra.bundle import load_manifest
from edge_lra.errors import EdgeError
from edge_lra.graph.builder import GraphBuilder
from edge_lra.pipeline import ExportRequest, export
from edge_lra.quantize.compensate import restore
from edge_lra.quantize.readings import Extra, Known
from edge_lra.quantize.schemes import Int8
from edge_lra.quantize.stored import BlockWeight, RestoredWeight
from edge_lra.runner import Runner
from edge_lra.weights import Source
from edge_lra.writer import DATA_NAME, write_data, write_model
from tests.graph.encoders import checkpoint, run
from tests.language import models

TENSOR = "encoder.layer.0.intermediate.dense.weight"
TEXTS = ["a fine film", "this is what a bore .", "bad", "not good , not bad"]


def request(out: str, **options: Any) -> ExportRequest:
    given = {"model": "model", "adapters": [("one", "adapter")], "verify": False} | options
    return ExportRequest(Path(out), **given)


def logits(bundle: Path) -> np.ndarray:
    runner = Runner.load(bundle, threads=1)
    return runner.run(runner.tokenize(TEXTS).inputs)["logits"]


@pytest.mark.parametrize("rank", [4, 64, 1000])  # of at most 64
def test_the_factors_are_the_best_of_their_rank_for_the_stored_integers(
    tmp_path: Path, rank: int
) -> None:
    base = checkpoint(tmp_path / "base", "bert", "feature-extraction")
    exact = base.rows(TENSOR).astype(np.float64)
    x = np.random.default_rng(0).normal(size=(500, 64)) * np.linspace(0.1, 3, 64)
    extra = Extra(rank, lambda: x.T @ x / len(x))
    weight = RestoredWeight(BlockWeight("w", Source(base, TENSOR, exact.shape), 4), extra)
    stored = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in weight.specs}
    for name, start, rows in weight.pieces():
        stored[name][start : start + len(rows)] = rows

    values = list(stored.values())
    assert values[2].shape == (64, min(rank, 64)) and values[3].shape == (min(rank, 64), 128)
    rounded = weight.rounded.shown(*values[:2])
    best = restore(exact, rounded, extra.moment(), min(rank, 64))
    left = ((exact - weight.shown(*values)) @ x.T) ** 2
    assert left.sum() / len(x) == pytest.approx(best.after.lost, rel=1e-3, abs=1e-9)
    assert best.after.lost < best.before.lost


@pytest.mark.parametrize("span", [None, (0.0, 255.0)], ids=["by batch", "by span"])
def test_factors_of_full_rank_make_an_int8_product_exact(
    tmp_path: Path, span: tuple[float, float] | None
) -> None:
    base = checkpoint(tmp_path / "base", "bert", "feature-extraction")
    exact = base.rows(TENSOR).astype(np.float64)
    x = np.random.default_rng(0).integers(0, 256, (300, 64)).astype(np.float32)
    x[:, 0], x[0, 0] = 0, 255  # whole numbers of this range are rounded to themselves

    def product(rank: int) -> np.ndarray:
        graph, folder = GraphBuilder(), tmp_path / str(rank)
        folder.mkdir()
        extra = Extra(rank, lambda: x.T @ x / len(x)) if rank else None
        source = Source(base, TENSOR, exact.shape)
        given = graph.input("x", "float32", (300, 64))
        y = Int8().linear(graph, given, "w", source, Known(span, extra=extra))
        model = graph.model([("y", y, (300, 128))], "g")
        layout, fingerprint = write_data(graph, folder / DATA_NAME)
        write_model(model, graph, layout, folder, fingerprint)
        return run(folder, {"x": x})["y"]

    wanted = x @ exact.T
    plain, restored = (np.abs(product(rank) - wanted).max() for rank in (0, 64))
    assert restored < 0.01 * plain


@pytest.mark.parametrize("mode", ["merge", "factored"])
def test_answers_in_four_bits_are_nearer_to_those_of_float_linears(tiny: Path, mode: str) -> None:
    given: dict[str, Any] = {"scheme": "int4", "mode": mode, "without": ["mixed-bits"]}
    exact = logits(export(request("float.edge", **given, keep_float=["*"])))
    plain, restored = (logits(export(request(f"{n}.edge", **given, extra_rank=n))) for n in (0, 32))
    assert np.linalg.norm(restored - exact) < 0.8 * np.linalg.norm(plain - exact)


def test_a_layers_errors_are_those_with_the_factors(tiny: Path) -> None:
    Path("t.txt").write_text("\n".join(TEXTS))
    errors = []
    for rank in (0, 32):
        asked = request(f"{rank}.edge", scheme="int4", data=Path("t.txt"), extra_rank=rank)
        found = attribute(export(asked), asked)
        assert load_manifest(asked.out)["extra_rank"] == rank
        errors.append([item.errors.weights for item in found.sites])
    assert max(errors[1]) < 0.1 * min(errors[0])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"scheme": "none"}, "found 4 for none, which is not calibrated, expected one of int8"),
        ({"scheme": "int8-weight-only"}, "found 4 for int8-weight-only, which is not calibrated"),
        ({"extra_rank": -1}, "found -1, expected 0 or more"),
    ],
)
def test_what_is_not_calibrated_is_refused(tiny: Path, options: dict[str, Any], line: str) -> None:
    with pytest.raises(EdgeError, match=f"extra rank: {line}"):
        export(request("b.edge", **({"extra_rank": 4} | options)))


def test_a_checkpoint_without_a_tokenizer_is_refused(tiny: Path) -> None:
    (tiny / "model/tokenizer.json").unlink()
    with pytest.raises(EdgeError, match=r"found 4 for a checkpoint without tokenizer\.json"):
        export(request("b.edge", extra_rank=4))


def test_a_language_model_is_refused(tmp_path: Path) -> None:
    model = models.write_model(tmp_path / "model")
    with pytest.raises(EdgeError, match="extra rank: found 4 for family llama, expected none"):
        export(ExportRequest(tmp_path / "b.edge", model=str(model), extra_rank=4))
