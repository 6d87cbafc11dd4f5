"""Lower an adapter's ranks: to one rank, to a share of each site's energy, or to a size."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edge_lra.adapters.algebra.svd import Decomposition, Spectrum, decompose
from edge_lra.adapters.kinds import LowRank
from edge_lra.adapters.saved import Array

FLOAT_BYTES = 4  # of a parameter in the file that is written
Roots = Mapping[str, tuple[Array, Array]]  # root and inverse root of the inputs' second moments


@dataclass(frozen=True)
class Site:
    """One module's spectrum, and what it was before. The factors stay in their file."""

    module: str
    shape: tuple[int, int]  # (out, in)
    rank: int
    spectrum: Spectrum

    @property
    def step_bytes(self) -> int:
        """Return what one more rank takes."""
        return FLOAT_BYTES * sum(self.shape)


@dataclass(frozen=True)
class Compressed:
    """One module's outcome.

    Attributes:
        kept_energy: share of the squared singular values.
        error: ||(D - D_k) X|| / ||D X||, X = I where no activations weight it.
    """

    module: str
    old_rank: int
    rank: int
    kept_energy: float
    error: float


def spectra(sites: Mapping[str, LowRank], roots: Roots | None = None) -> list[Site]:
    """Return every site's singular values; factors are read and dropped one site at a time."""
    found = []
    for module in sorted(sites):
        update = sites[module]
        parts = _decompose(update, module, roots)
        shape = (len(update.up), update.down.shape[1])
        found.append(Site(module, shape, len(update.down), Spectrum(parts.values, parts.energy)))
    return found


def _decompose(update: LowRank, module: str, roots: Roots | None) -> Decomposition:
    root, inverse = (roots or {}).get(module, (None, None))
    return decompose(update, root, inverse)


def to_rank(sites: Sequence[Site], rank: int) -> dict[str, int]:
    """Return each site's rank, at most `rank`."""
    return {site.module: min(rank, len(site.spectrum.values)) for site in sites}


def to_energy(sites: Sequence[Site], energy: float) -> dict[str, int]:
    """Return for each site the smallest rank that keeps a share of its energy."""
    return {site.module: site.spectrum.rank_for(energy) for site in sites}


def to_bytes(sites: Sequence[Site], budget: int) -> dict[str, int]:
    """Spend bytes on the components that explain most for their size, over all sites.

    A knapsack whose items come in order within a site, for singular values descend: taking the
    best energy per byte first is optimal at every size it passes through, and at the budget it
    misses the optimum by less than one component. Sites may get rank 0.
    """
    ranks = {site.module: 0 for site in sites}
    by_name = {site.module: site for site in sites}

    def worth(site: Site, place: int) -> float:
        return float(site.spectrum.values[place] ** 2) / site.step_bytes

    queue = [(-worth(site, 0), site.module) for site in sites if len(site.spectrum.values)]
    heapq.heapify(queue)
    left = budget
    while queue:
        _, module = heapq.heappop(queue)
        site = by_name[module]
        if site.step_bytes > left:
            continue
        left -= site.step_bytes
        ranks[module] += 1
        if ranks[module] < len(site.spectrum.values):
            heapq.heappush(queue, (-worth(site, ranks[module]), module))
    return ranks


def truncate(
    sites: Mapping[str, LowRank], ranks: Mapping[str, int], roots: Roots | None = None
) -> dict[str, LowRank]:
    """Truncate every site to its rank; a site of rank 0 goes."""
    return {
        module: _decompose(sites[module], module, roots).truncate(rank)
        for module, rank in sorted(ranks.items())
        if rank
    }


def report(sites: Sequence[Site], ranks: Mapping[str, int]) -> list[Compressed]:
    """Return what each site keeps at its rank."""
    return [
        Compressed(
            site.module,
            site.rank,
            ranks[site.module],
            site.spectrum.kept_energy(ranks[site.module]),
            site.spectrum.error(ranks[site.module]),
        )
        for site in sites
    ]


def fit_accuracy(
    sites: Sequence[Site],
    accuracy: Callable[[dict[str, int]], float],
    least: float,
    steps: int = 7,
) -> tuple[dict[str, int], float]:
    """Return the smallest ranks whose accuracy is at least `least`, by bisection over bytes.

    Args:
        sites: the spectra.
        accuracy: measures the adapter at these ranks, in points.
        least: the accuracy to keep, in points.
        steps: halvings of the size; 7 end within 1 % of the whole.

    Returns:
        The ranks, and the accuracy measured with them.
    """
    whole = sum(site.step_bytes * len(site.spectrum.values) for site in sites)
    low, high = 0.0, 1.0
    best = to_bytes(sites, whole)
    found = accuracy(best)
    for _ in range(steps):
        middle = (low + high) / 2
        ranks = to_bytes(sites, int(middle * whole))
        measured = accuracy(ranks) if any(ranks.values()) else -1.0
        if measured >= least:
            best, found, high = ranks, measured, middle
        else:
            low = middle
    return best, found
