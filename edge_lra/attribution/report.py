"""The whole report: layers, products, the worst of them with remedies, and adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edge_lra.attribution.errors import Errors, relative, site_errors
from edge_lra.attribution.remedies import Remedy, try_remedies
from edge_lra.attribution.rounding import Sample
from edge_lra.attribution.sample import Array, run_bundle, spread
from edge_lra.attribution.sites import NotCoveredError, Site, find_sites
from edge_lra.attribution.survive import survivals
from edge_lra.blas import one_thread
from edge_lra.bundle import load_manifest
from edge_lra.graph.plan import Plan
from edge_lra.inputs import ExportRequest, Inputs, read_inputs
from edge_lra.pipeline import build
from edge_lra.planning import make_plan
from edge_lra.probe import load_graph
from edge_lra.products.write import read_products
from edge_lra.proof import Subject, choose_basis, open_oracle, subjects
from edge_lra.quantize.survival import Survival
from edge_lra.recipe import EncoderRecipe
from edge_lra.runner import Runner
from edge_lra.runner.session import check_inputs
from edge_lra.traced.route import needs_trace
from edge_lra.verify import per_text

WORST = 5


@dataclass(frozen=True)
class SiteReport:
    """One product: where it is, its errors, and what is left of each merged adapter there."""

    site: Site
    errors: Errors
    survivals: Mapping[str, Survival]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        place = {"site": self.site.name, "layer": self.site.layer, "role": self.site.role}
        shares = {name: found.share for name, found in self.survivals.items()}
        return place | asdict(self.errors) | {"survival": shares}


@dataclass(frozen=True)
class LayerReport:
    """One layer: root mean squares of its products' errors, and the error of its output.

    Attributes:
        layer: its index.
        sites: how many products it has with a rounded weight.
        errors: of them, by the names of `Errors`; None without any.
        output: relative L2 error against the float model, with all that layers before it add.
    """

    layer: int
    sites: int
    errors: Mapping[str, float | None]
    output: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        place = {"layer": self.layer, "sites": self.sites}
        return place | dict(self.errors) | {"output": self.output}


@dataclass(frozen=True)
class Attribution:
    """Where a bundle's error comes from.

    Attributes:
        adapter: that acted while it was measured, several merged ones joined.
        texts: how many were run.
        layers: in order.
        sites: in the graph's order.
        remedies: of the worst sites by name, the worst first.
        adapters: in the project's order.
    """

    adapter: str | None
    texts: int
    layers: list[LayerReport]
    sites: list[SiteReport]
    remedies: dict[str, dict[str, Remedy | None]]
    adapters: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        sites = {found.site.name: found.as_dict() for found in self.sites}
        worst = [
            sites[name]
            | {"remedies": {k: None if r is None else r._asdict() for k, r in tried.items()}}
            for name, tried in self.remedies.items()
        ]
        return {
            "adapter": self.adapter,
            "texts": self.texts,
            "layers": [layer.as_dict() for layer in self.layers],
            "worst": worst,
            "adapters": [self.kept(name) for name in self.adapters],
            "sites": list(sites.values()),
        }

    def kept(self, adapter: str) -> dict[str, Any]:
        """Return what is left of an adapter's change; no figure where its factors are apart."""
        found = {
            item.site.name: item.survivals[adapter]
            for item in self.sites
            if adapter in item.survivals
        }
        whole = {"adapter": adapter, "weights": None, "worst": None, "worst_share": None}
        if not found:
            return whole
        worst = min(found, key=lambda name: found[name].share)
        total = sum(item.total for item in found.values())
        share = sum(item.along for item in found.values()) / total
        return whole | {"weights": share, "worst": worst, "worst_share": found[worst].share}


class Run(NamedTuple):
    """What both models gave on the same texts."""

    samples: dict[str, Sample]  # by value
    outputs: list[float]  # a layer's relative L2 error
    texts: int


def attribute(bundle: Path, request: ExportRequest) -> Attribution:
    """Take a bundle's error apart on the request's text.

    Args:
        bundle: the bundle's folder.
        request: what gives the same bundle again.

    Raises:
        NotCoveredError: it is no encoder that a recipe builds, or not the request's.
        EdgeError: the request's files do not fit each other.
    """
    if needs_trace(request):
        raise NotCoveredError("errors by layer and source: a traced model has no layers by name")
    inputs = read_inputs(request)
    if not isinstance(inputs.recipe, EncoderRecipe):
        raise NotCoveredError("errors by layer and source: encoders only, not language models")
    if request.data is not None and not request.data.is_file():
        raise NotCoveredError(
            f"errors by layer and source: {request.data}: found no such file, expected the text "
            "that the project calibrates with"
        )
    plan = make_plan(request, inputs)
    check_calibration(load_manifest(bundle), plan)
    built = build(plan, inputs, request)
    graph = load_graph(bundle).graph
    sites = find_sites(graph, built.builder.weights, roles(inputs))
    subject = subjects(inputs.adapters, inputs.weights, request.mode)[0]
    run = run_both(bundle, inputs, request, subject, sites)
    merged = subject if request.mode == "merge" else Subject()
    with one_thread():
        found = measure(bundle, sites, run.samples, merged)
        worst = sorted(found, key=lambda item: -item.errors.both)[:WORST]
        remedies = {
            item.site.name: try_remedies(item.site, item.site.read(), run.samples[item.site.reads])
            for item in worst
        }
    layers = [of_layer(index, found, output) for index, output in enumerate(run.outputs)]
    names = [adapter.name for adapter in inputs.adapters]
    return Attribution(subject.name, run.texts, layers, found, remedies, names)


def check_calibration(manifest: Mapping[str, Any], plan: Plan) -> None:
    """Refuse a project that would calibrate otherwise: its weights' divisors would be others.

    Raises:
        NotCoveredError: names both texts.
    """
    own = manifest.get("calibration") or {"source": "random ids"}  # older bundles
    found = plan.calibration and plan.calibration.as_dict()
    if found and {**own, "source": None} != {**found, "source": None}:  # a file may be renamed
        raise NotCoveredError(
            f"errors by layer and source: found a bundle calibrated with {own['source']}, expected "
            f"{found['source']} as in this project; export it again, or name as data in "
            "edge-lra.toml what calibrated it"
        )


def roles(inputs: Inputs) -> dict[str, tuple[int, str]]:
    """Return layer and role by the names of an encoder's modules."""
    layers = range(inputs.recipe.count(inputs.config, "layers"))
    named = inputs.recipe.layer.items()
    return {name.format(i=i): (i, role) for i in layers for role, name in named}


def run_both(
    bundle: Path, inputs: Inputs, request: ExportRequest, subject: Subject, sites: Sequence[Site]
) -> Run:
    """Run the bundle and the float model on some of the texts."""
    runner = Runner.load(bundle, verify="never")
    manifest = runner.manifest
    basis = choose_basis(runner, inputs, request)
    every = list(per_text(basis.tokens))
    texts = [check_inputs(every[place], manifest) for place in spread(len(every))]
    chosen = subject.name if subject.adapters and runner.adapters else None
    labels = manifest["adapters"][chosen]["labels"] if chosen else manifest["labels"]
    oracle = open_oracle(inputs, subject, len(labels) if labels else None)
    expected = [oracle.hidden_states(text) for text in texts]
    factors = runner.adapter_tensors(chosen)
    given = [{**text, **factors} for text in texts]
    values = [site.reads for site in sites]
    samples, outputs = run_bundle(bundle, given, values, len(expected[0]))
    pairs = zip(zip(*expected, strict=True), outputs, strict=True)
    return Run(samples, [_output_error(exact, own) for exact, own in pairs], len(texts))


def _output_error(expected: Sequence[Array], found: Sequence[Array]) -> float:
    """Return the relative L2 error of a layer's output over all tokens that it is computed for."""
    own = np.concatenate([values[0] for values in found])
    pairs = zip(expected, found, strict=True)  # the last may hold the first token alone
    exact = np.concatenate([values[0, : part.shape[1]] for values, part in pairs])
    return relative(own - exact, exact)


def measure(
    bundle: Path, sites: Sequence[Site], samples: Mapping[str, Sample], merged: Subject
) -> list[SiteReport]:
    """Return each site's errors; one weight is held at a time.

    Args:
        bundle: the bundle's folder.
        sites: of its graph.
        samples: by the value that a site reads.
        merged: the adapters that the weights have taken in.
    """
    products = {product.name: product for product in read_products(bundle)}
    found = []
    for site in sites:
        weight = site.read()
        product = products.get(str(site.stored[0].name))
        errors = site_errors(site, weight, samples[site.reads], product, bundle)
        found.append(SiteReport(site, errors, survivals(site, weight, merged)))
    return found


def of_layer(layer: int, sites: Sequence[SiteReport], output: float) -> LayerReport:
    """Return a layer's errors from those of its sites."""
    own = [asdict(item.errors) for item in sites if item.site.layer == layer]
    names = (item.name for item in fields(Errors))
    means = {name: _root_mean_square([item[name] for item in own]) for name in names}
    return LayerReport(layer, len(own), means, output)


def _root_mean_square(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.sqrt(np.mean(np.square(known)))) if known else None
