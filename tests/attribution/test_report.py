"""A bundle's errors by layer and product, against what its graph and the float model compute."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edge_lra.attribution.report import Attribution, attribute
from edge_lra.attribution.sites import NotCoveredError
from edge_lra.bundle import load_manifest
from edge_lra.graph.plan import LAYER_OUTPUT
from edge_lra.inputs import ExportRequest, read_inputs
from edge_lra.pipeline import export
from edge_lra.prepack import prepack
from edge_lra.probe import open_probe, shift_of
from edge_lra.proof import choose_basis, open_oracle, subjects
from edge_lra.runner import Runner
from edge_lra.verify import layer_errors, per_text
from tests.language.models import write_model

TEXTS = ["a fine film", "this is what a bore .", "bad", "not good , not bad"]


@pytest.fixture
def asked(tiny: Path, request: pytest.FixtureRequest) -> ExportRequest:
    """Return a request whose bundle is written; parametrized by what it changes."""
    (tiny / "t.txt").write_text("\n".join(TEXTS))
    for name in ("named.txt", "other.txt"):
        (tiny / name).write_text("\n".join(TEXTS * 8))
    made = ExportRequest(
        tiny / "b.edge", model="model", adapters=[("one", "adapter")], data=tiny / "t.txt"
    )
    made = replace(made, **getattr(request, "param", {}))
    export(replace(made, verify=False))
    return made


@pytest.fixture
def found(asked: ExportRequest) -> Attribution:
    return attribute(asked.out, asked)


def float_texts(request: ExportRequest) -> list[dict[str, np.ndarray]]:
    runner, inputs = Runner.load(request.out), read_inputs(request)
    return list(per_text(choose_basis(runner, inputs, request).tokens))


@pytest.mark.parametrize("asked", [{}, {"scheme": "int8-weight-only"}], indirect=True)
def test_a_sites_error_is_that_of_what_the_graph_computes(
    asked: ExportRequest, found: Attribution
) -> None:
    graph = ir.load(asked.out / "model.onnx").graph
    item = next(item for item in found.sites if item.site.role == "output")
    node = graph.initializers[item.site.stored[0].name].consumers()[0]
    while node.op_type in ("MatMulInteger", "Cast"):
        node = node.outputs[0].consumers()[0]
    names = [item.site.reads, str(node.outputs[0].name)]
    runs = [open_probe(asked.out, names)(text) for text in float_texts(asked)]
    x, y = (np.concatenate([run[name][0] for run in runs]).astype(np.float64) for name in names)
    exact = x @ item.site.read().exact.T
    expected = np.linalg.norm(y - exact) / np.linalg.norm(exact)
    # The float kernel and single roundings of ties.
    assert item.errors.both == pytest.approx(expected, rel=0.02)


def test_a_layer_is_the_root_mean_square_of_its_sites(found: Attribution) -> None:
    for layer in found.layers:
        own = [item.errors for item in found.sites if item.site.layer == layer.layer]
        assert layer.sites == len(own) == 7
        for name in ("weights", "activations", "both", "saturation", "saturation_avx2"):
            values = np.array([getattr(errors, name) for errors in own])
            assert layer.errors[name] == pytest.approx(np.sqrt((values**2).mean()))


def test_a_layers_output_error_is_the_whole_texts(asked: ExportRequest, found: Attribution) -> None:
    inputs = read_inputs(asked)
    oracle = open_oracle(inputs, subjects(inputs.adapters, inputs.weights, "merge")[0], 2)
    shares = []
    for text in float_texts(asked):
        hidden = oracle.hidden_states(text)
        hidden[-1] = hidden[-1][:, :1]  # all that the head reads
        sizes = [float(np.linalg.norm(state)) for state in hidden]
        shares.append(list(zip(layer_errors(asked.out, hidden, text, {}), sizes, strict=True)))
    for index, layer in enumerate(found.layers):
        pairs = np.array([share[index] for share in shares])
        whole = np.sqrt(((pairs[:, 0] * pairs[:, 1]) ** 2).sum() / (pairs[:, 1] ** 2).sum())
        assert layer.output == pytest.approx(whole, rel=1e-3)


def test_a_packed_bundles_layers_have_the_same_errors(
    asked: ExportRequest, found: Attribution
) -> None:
    """What they are held less of is known after onnxruntime optimized the graph, too."""
    graph = ir.load(asked.out / "model.onnx")
    assert np.abs(shift_of(graph, LAYER_OUTPUT.format(i=0))).max() > 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a packed weight's would fill the terminal
        packed = attribute(prepack(asked.out).folder, asked)
    for layer, own in zip(packed.layers, found.layers, strict=True):
        assert layer.output == pytest.approx(own.output, rel=0.05)


def test_pair_safe_weights_do_not_saturate(found: Attribution) -> None:
    assert {item.errors.saturation_avx2 for item in found.sites} == {0.0}
    assert {item.errors.saturation for item in found.sites} == {0.0}


@pytest.mark.parametrize("asked", [{"scheme": "int8-weight-only"}], indirect=True)
def test_blocks_have_no_exact_product_to_saturate_from(found: Attribution) -> None:
    assert {item.errors.saturation for item in found.sites} == {None}
    assert all(tried["8-bit blocks"] is None for tried in found.remedies.values())
    assert all(item.errors.weights > 0 < item.errors.activations for item in found.sites)


@pytest.mark.parametrize("asked", [{"scheme": "int4"}], indirect=True)
def test_more_bits_are_a_remedy_for_four(found: Attribution) -> None:
    errors = {item.site.name: item.errors for item in found.sites}
    for name, tried in found.remedies.items():
        assert tried["8-bit blocks"].error < errors[name].both / 3
        assert tried["8-bit blocks"].extra_bytes == found_size(found, name) // 2


def found_size(found: Attribution, name: str) -> int:
    """Return the weights of a site: a byte more holds two of 4 bits."""
    return next(
        int(np.prod(item.site.weight.source.shape))
        for item in found.sites
        if item.site.name == name
    )


def test_the_worst_sites_come_first(found: Attribution) -> None:
    errors = {item.site.name: item.errors.both for item in found.sites}
    assert list(found.remedies) == sorted(errors, key=lambda name: -errors[name])[:5]
    assert all(tried["float32"].error == 0 for tried in found.remedies.values())


def test_a_merged_adapters_change_is_left_in_the_weights_it_changes(found: Attribution) -> None:
    changed = {item.site.role for item in found.sites if item.survivals}
    assert changed == {"query", "value"}
    assert found.kept("one")["weights"] == pytest.approx(1, abs=0.02)


def test_the_least_that_is_left_is_what_the_export_found(
    asked: ExportRequest, found: Attribution
) -> None:
    exported = load_manifest(asked.out)["merged"]["delta_survival"]
    assert found.kept("one")["worst_share"] == pytest.approx(exported["min"], abs=1e-6)


TWO = {"adapters": [("one", "adapter"), ("two", "adapter")], "weights": [1.0, 0.5]}


@pytest.mark.parametrize("asked", [TWO], indirect=True)
def test_each_of_several_merged_adapters_is_judged_by_its_own_change(found: Attribution) -> None:
    one, two = (found.kept(name)["weights"] - 1 for name in ("one", "two"))
    assert one != 0
    assert two == pytest.approx(2 * one)  # the same rounding on half the change


@pytest.mark.parametrize("asked", [{"mode": "factored"}], indirect=True)
def test_a_factored_adapter_acts_but_is_in_no_weight(found: Attribution) -> None:
    assert found.adapter == "one"
    assert found.kept("one")["weights"] is None
    assert max(layer.output for layer in found.layers) < 0.1


@pytest.mark.parametrize("asked", [{"keep_float": ["*layer.0*"]}], indirect=True)
def test_a_layer_in_float_has_no_error_of_its_own(found: Attribution) -> None:
    assert found.layers[0].sites == 0
    assert set(found.layers[0].errors.values()) == {None}


def test_a_bundle_of_other_weights_is_not_taken_apart(asked: ExportRequest) -> None:
    with pytest.raises(NotCoveredError, match=r"query\.weight: found other integers"):
        attribute(asked.out, replace(asked, adapters=()))


def test_a_bundle_that_other_text_calibrated_is_not_taken_apart(
    asked: ExportRequest, tiny: Path
) -> None:
    """Its weights are divided otherwise, by little if the texts are alike."""
    more = tiny / "more.txt"
    more.write_text("\n".join(TEXTS * 8))
    with pytest.raises(NotCoveredError, match=r"with built-in text, expected more\.txt"):
        attribute(asked.out, replace(asked, data=more))
    more.unlink()
    with pytest.raises(NotCoveredError, match=r"more\.txt: found no such file"):
        attribute(asked.out, replace(asked, data=more))


@pytest.mark.parametrize("asked", [{"data": Path("named.txt")}], indirect=True)
def test_text_that_was_renamed_is_the_same(asked: ExportRequest, tiny: Path) -> None:
    assert attribute(asked.out, replace(asked, data=tiny / "other.txt")).sites


def test_nothing_is_written_into_the_bundle(asked: ExportRequest) -> None:
    before = {path: path.stat().st_mtime_ns for path in asked.out.rglob("*")}
    attribute(asked.out, asked)
    assert {path: path.stat().st_mtime_ns for path in asked.out.rglob("*")} == before


def test_a_language_model_is_not_taken_apart(tmp_path: Path) -> None:
    request = ExportRequest(tmp_path / "b.edge", model=str(write_model(tmp_path / "model")))
    with pytest.raises(NotCoveredError, match="not language models"):
        attribute(request.out, request)


def test_a_traced_model_is_not_taken_apart(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(NotCoveredError, match="traced"):
        attribute(tmp_path, ExportRequest(tmp_path / "b.edge", model=str(tmp_path)))
