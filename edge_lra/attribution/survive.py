"""What is left of each merged adapter in the weights as the bundle holds them."""

from __future__ import annotations

from dataclasses import replace

from edge_lra.adapters.kinds.update import weighted
from edge_lra.attribution.sites import Site, Weight
from edge_lra.proof import Subject
from edge_lra.quantize.survival import Survival


def survivals(site: Site, weight: Weight, subject: Subject) -> dict[str, Survival]:
    """Return what rounding left of each adapter's change at a site that it changes.

    Of several merged ones each is judged alone: the rounding error of their sum, on its own change.

    Args:
        site: of a merged bundle.
        weight: the site's.
        subject: the adapters and their weights.
    """
    found = {}
    for adapter, factor in zip(subject.adapters, subject.weights, strict=True):
        update = adapter.updates.get(site.weight.source.tensor)
        if update is None:
            continue
        alone = replace(site.weight.source, update=weighted([(factor, update)]))
        survival = Survival(site.name)
        for start, merged, plain in alone.pairs():
            rows = slice(start, start + len(merged))
            rounded = weight.rounded[rows] - weight.exact[rows] + merged
            survival.add(rounded, weight.step[rows], merged, plain)
        if survival.total:
            found[adapter.name] = survival
    return found
