"""Adapters fitted to a rounded base: what they make up for, and what they leave alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from edge_lra.adapters import Adapter
from edge_lra.adapters.kinds.update import Factors
from edge_lra.bundle import load_manifest
from edge_lra.errors import EdgeError
from edge_lra.graph.builder import GraphBuilder
from edge_lra.pipeline import ExportRequest, export
from edge_lra.quantize.compensate import couple
from edge_lra.quantize.pairsafe import Quantized
from edge_lra.quantize.readings import Extra, Read, Reading
from edge_lra.quantize.stored import BlockWeight, Int8Weight, RestoredWeight
from edge_lra.refit import RoundedBase, refit_adapters
from edge_lra.weights import Dense, Source, Stored
from edge_lra.writer import write_data
from tests.graph.encoders import checkpoint

Array = np.ndarray
TENSOR = "encoder.layer.0.attention.self.query.weight"
WIDTH = 64
FEW = np.array([3, 40])
MASK = np.where(np.isin(np.arange(WIDTH), FEW), 0.0, 1.0)
DIVISOR = np.linspace(0.5, 4, WIDTH)


def coarse(rows: Array) -> Quantized:
    """Round so roughly that the error is of the weights' own size."""
    scale = np.abs(rows).max(axis=1, initial=1e-30) / 2
    return Quantized(np.rint(rows / scale[:, None]).astype(np.int8), scale.astype(np.float32))


def whole(source: Source) -> list[Stored]:
    return [Int8Weight("w", replace(source, column_scale=DIVISOR), coarse, True)]


def blocks(source: Source) -> list[Stored]:
    return [BlockWeight("w", source, 4, coupling=lambda: couple(np.eye(WIDTH)))]


def restored(source: Source) -> list[Stored]:
    """Return a weight with factors of its own that make up for a part of its error."""
    extra = Extra(4, lambda: np.eye(WIDTH))
    return [RestoredWeight(Int8Weight("w", source, coarse, True), extra)]


def rows_apart(source: Source) -> list[Stored]:
    """Return the parts of a split feed-forward block's up projection."""
    divided = replace(source, column_scale=DIVISOR)
    few = replace(divided, rows=FEW, shape=(len(FEW), WIDTH))
    many = replace(divided, row_scale=MASK)
    return [Int8Weight("w", many, coarse, True), Int8Weight("few", few, coarse, True)]


def columns_apart(source: Source) -> list[Stored]:
    """Return the parts of its down projection; the few columns stay in float32."""
    few = replace(source, columns=FEW, shape=(WIDTH, len(FEW)))
    many = replace(source, column_scale=MASK)
    return [Int8Weight("w", many, coarse, True), Dense("few", few, transpose=True)]


def normed() -> Array:
    """Return what a norm gives for 500 tokens, (500, WIDTH)."""
    random = np.random.default_rng(0)
    x = random.normal(size=(500, WIDTH)) @ random.normal(size=(WIDTH, WIDTH))
    x = x - x.mean(axis=1, keepdims=True)
    x = x / np.sqrt((x**2).mean(axis=1, keepdims=True))
    return x * random.uniform(0.5, 2, WIDTH) + random.normal(size=WIDTH)


@pytest.mark.parametrize("shift", [None, np.linspace(-1, 1, WIDTH)], ids=["as it is", "centred"])
@pytest.mark.parametrize("parts", [whole, blocks, restored, rows_apart, columns_apart])
def test_factors_of_full_rank_make_up_for_all_that_rounding_took(
    tmp_path: Path, parts: Callable[[Source], list[Stored]], shift: Array | None
) -> None:
    base = checkpoint(tmp_path / "base", "bert", "feature-extraction")
    weight = base.rows(TENSOR).astype(np.float64)
    builder, x = GraphBuilder(), normed()
    for part in parts(Source(base, TENSOR, weight.shape)):
        builder.stored(part)
    layout, _ = write_data(builder, tmp_path / "data")
    rounded = RoundedBase(builder.weights, tmp_path / "data", layout)
    reading = Reading(x.min(0), x.max(0), x.mean(0), lambda: np.cov(x.T, bias=True))
    own = Factors(np.eye(WIDTH), np.random.default_rng(1).normal(size=(WIDTH, WIDTH)) / 50)
    given = Adapter("a", tmp_path, {}, {}, None, None, {}, factors={TENSOR: own})
    (found,) = refit_adapters([given], base, rounded, {TENSOR: Read(reading, shift)})

    fitted = found.adapter.factors[TENSOR]
    lost = (x - (0 if shift is None else shift)) @ rounded.lost(TENSOR, weight.shape).T
    # What the graph gives: its product is off by `lost`, its factors read x as it is.
    wanted = own.apply(x, x @ weight.T)
    before, after = (f.apply(x, x @ weight.T - lost) - wanted for f in (own, fitted))
    assert np.linalg.norm(before) > 0.02 * np.linalg.norm(wanted)
    assert np.linalg.norm(after) < 1e-3 * np.linalg.norm(before)
    assert found.before.ratio == pytest.approx(
        np.linalg.norm(before) / np.linalg.norm(wanted), rel=1e-3
    )


def test_what_was_lost_is_the_float_weight_less_the_stored_one(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base", "bert", "feature-extraction")
    weight = base.rows(TENSOR).astype(np.float64)
    builder = GraphBuilder()
    for part in rows_apart(Source(base, TENSOR, weight.shape)):
        builder.stored(part)
    layout, _ = write_data(builder, tmp_path / "data")
    lost = RoundedBase(builder.weights, tmp_path / "data", layout).lost(TENSOR, weight.shape)
    rounded = coarse(weight * DIVISOR)
    shown = rounded.values * rounded.scale.astype(np.float64)[:, None] / DIVISOR
    np.testing.assert_allclose(lost, weight - shown, atol=1e-12)


def request(out: str, *names: str, **options: Any) -> ExportRequest:
    adapters = [(name, "adapter") for name in names]
    return ExportRequest(
        **{"out": Path(out), "model": "model", "mode": "factored", "verify": False}
        | {"adapters": adapters, "sites": "all-linear", "with_": ["refit"]}
        | options
    )


def made(out: str, *names: str, **options: Any) -> tuple[Path, dict[str, Any]]:
    bundle = export(request(out, *names, **options))
    return bundle, load_manifest(bundle)


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_the_base_is_the_same_with_and_without(tiny: Path, scheme: str) -> None:
    on, fitted = made("on.edge", "one", scheme=scheme)
    off, plain = made("off.edge", "one", scheme=scheme, with_=())
    assert fitted["base_fingerprint"] == plain["base_fingerprint"]
    assert (on / "model.onnx").read_bytes() == (off / "model.onnx").read_bytes()
    own, other = (load_file(b / "adapters/one.safetensors") for b in (on, off))
    assert {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in other.items()}
    assert any(not np.array_equal(own[name], other[name]) for name in own)


def test_the_manifest_says_what_each_adapter_gained(tiny: Path) -> None:
    _, manifest = made("b.edge", "one", scheme="int4")
    found = manifest["adapters"]["one"]["refit"]
    assert 0 < found["error_after"] < found["error_before"] < 0.2
    assert manifest["with"] == ["refit"]
    _, plain = made("c.edge", "one", with_=())
    assert plain["adapters"]["one"]["refit"] is None and plain["with"] == []


def test_each_adapter_is_fitted_by_itself(tiny: Path) -> None:
    shutil.copytree("adapter", "other")
    config = tiny / "other/adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 3}))
    pair = [("one", "adapter"), ("two", "other")]
    together, _ = made("together.edge", adapters=pair)
    for name, path in pair:
        alone, _ = made(f"{name}.edge", adapters=[(name, path)])
        file = f"adapters/{name}.safetensors"
        assert (together / file).read_bytes() == (alone / file).read_bytes()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"mode": "merge", "sites": "adapter"}, "without factored adapters, expected --factored"),
        ({"adapters": []}, "without factored adapters"),
        ({"scheme": "none"}, "for none, which is not calibrated, expected one of int8, int4"),
        ({"scheme": "int8-weight-only"}, "for int8-weight-only, which is not calibrated"),
    ],
)
def test_what_has_nothing_to_fit_is_refused(
    tiny: Path, options: dict[str, Sequence[str]], line: str
) -> None:
    with pytest.raises(EdgeError, match=f"with: found refit {line}"):
        export(request("b.edge", "one", **options))
    assert not Path("b.edge").exists()


def test_without_a_tokenizer_it_is_refused(tiny: Path) -> None:
    (tiny / "model/tokenizer.json").unlink()
    with pytest.raises(EdgeError, match=r"found refit for a checkpoint without tokenizer\.json"):
        export(request("b.edge", "one"))
