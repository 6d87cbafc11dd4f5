"""The form of each linear: the least time that keeps to the limits.

What forms change in their layers' outputs adds up (MiniLM in int8: .0461 of the last layer's output
by the sum, .0455 by a run of all), so each linear is moved by itself: to the form that takes off
most error for what it adds in time, until the error is within its limit, and back where less will
do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from edge_lra.quantize.schemes import USUAL

NEAR = 1.03  # of the time of a form: what is within it may be noise
SLOWER = "slower in int8 here"
NEARER = "less error"


class Cost(NamedTuple):
    """What a linear in one form costs."""

    lost: float  # squared relative change of its layer's output
    us: float  # without the rounding of what it reads
    nbytes: int


@dataclass(frozen=True)
class Site:
    """A linear and what each form of it costs.

    Attributes:
        name: in the checkpoint.
        layer: its index.
        role: what it does there.
        value: names what it reads.
        costs: by form.
    """

    name: str
    layer: int
    role: str
    value: str
    costs: Mapping[str, Cost]


@dataclass(frozen=True)
class Costs:
    """All linears of an encoder.

    Attributes:
        sites: in the model's order.
        rounding_us: of each value once, for all who read it in int8.
        rest_bytes: of the weights' file without the sites.
    """

    sites: tuple[Site, ...]
    rounding_us: Mapping[str, float]
    rest_bytes: int

    @cached_property
    def by_name(self) -> dict[str, Site]:
        """The sites by their names."""
        return {site.name: site for site in self.sites}

    @cached_property
    def readers(self) -> dict[str, list[Site]]:
        """The sites by the value that they read."""
        found: dict[str, list[Site]] = {}
        for site in self.sites:
            found.setdefault(site.value, []).append(site)
        return found

    def value_us(self, value: str, forms: Mapping[str, str]) -> float:
        """Return the time of all that read a value."""
        sites = self.readers[value]
        rounded = any(forms[site.name] == USUAL for site in sites)
        products = sum(site.costs[forms[site.name]].us for site in sites)
        return products + (self.rounding_us[value] if rounded else 0.0)

    def us(self, forms: Mapping[str, str]) -> float:
        """Return the time of all linears."""
        return sum(self.value_us(value, forms) for value in self.readers)

    def lost(self, forms: Mapping[str, str]) -> float:
        """Return the sum of what they change in their layers' outputs."""
        return sum(site.costs[forms[site.name]].lost for site in self.sites)

    def nbytes(self, forms: Mapping[str, str]) -> int:
        """Return the size of the weights' file."""
        return self.rest_bytes + sum(site.costs[forms[site.name]].nbytes for site in self.sites)

    def change(self, forms: Mapping[str, str], move: Mapping[str, str]) -> Cost:
        """Return what changes where some sites, all of one value, have other forms."""
        sites = [self.by_name[name] for name in move]
        now = [site.costs[forms[site.name]] for site in sites]
        new = [site.costs[move[site.name]] for site in sites]
        value = sites[0].value
        return Cost(
            sum(cost.lost for cost in new) - sum(cost.lost for cost in now),
            self.value_us(value, {**forms, **move}) - self.value_us(value, forms),
            sum(cost.nbytes for cost in new) - sum(cost.nbytes for cost in now),
        )

    def throughout(self, form: str) -> dict[str, str]:
        """Return every site in one form."""
        return {site.name: form for site in self.sites}


@dataclass(frozen=True)
class Bounds:
    """What forms may cost; endless where there is no limit.

    Attributes:
        lost: as `Costs.lost`.
        us: as `Costs.us`.
        nbytes: as `Costs.nbytes`.
        exactest: a limit of time or size alone: as little error as there is room for.
    """

    lost: float = math.inf
    us: float = math.inf
    nbytes: float = math.inf
    exactest: bool = False


@dataclass(frozen=True)
class Chosen:
    """Forms, and why sites are not in int8.

    Attributes:
        forms: by site.
        why: of sites in other forms.
        binding: which of "error", "time" and "size_mib" could not be kept; None for none.
    """

    forms: Mapping[str, str]
    why: Mapping[str, str] = field(default_factory=dict)
    binding: str | None = None


def choose(costs: Costs, bounds: Bounds) -> Chosen:
    """Return the quickest forms within the bounds, as near as moving one by one comes to them."""
    forms = quickest(costs)
    guarded = {name for name, form in forms.items() if form != USUAL}
    shrink(costs, forms, bounds)
    target = 0.0 if bounds.exactest else bounds.lost
    start = dict(forms)
    approach(costs, forms, bounds, target)
    if not bounds.exactest:
        relax(costs, forms, start, target)
    why = {
        name: SLOWER if name in guarded and start[name] == form else NEARER
        for name, form in forms.items()
        if form != USUAL
    }
    return Chosen(forms, why, exceeded(costs, forms, bounds))


def exceeded(costs: Costs, forms: Mapping[str, str], bounds: Bounds) -> str | None:
    """Return which bound forms do not keep to."""
    if costs.nbytes(forms) > bounds.nbytes:
        return "size_mib"
    if costs.us(forms) > bounds.us:
        return "time"
    return "error" if costs.lost(forms) > bounds.lost else None


def quickest(costs: Costs) -> dict[str, str]:
    """Return int8 for all but those that are slower in it, and have no more error otherwise.

    What rounds a value counts for all who read it in int8 in equal parts.
    """
    forms = costs.throughout(USUAL)
    moved = True
    while moved:
        moved = False
        for value, sites in costs.readers.items():
            usual = [site for site in sites if forms[site.name] == USUAL]
            for site in usual:
                own = site.costs[USUAL]
                us = own.us + costs.rounding_us[value] / len(usual)
                form = min(
                    (f for f, cost in site.costs.items() if cost.lost <= own.lost and f != USUAL),
                    key=lambda f: site.costs[f].us,
                )
                if site.costs[form].us * NEAR < us:
                    forms[site.name] = form
                    moved = True
    return forms


def shrink(costs: Costs, forms: dict[str, str], bounds: Bounds) -> None:
    """Put sites back into int8, those first that save most bytes for their time, until all fit."""
    while costs.nbytes(forms) > bounds.nbytes:
        moves = [{name: USUAL} for name, form in forms.items() if form != USUAL]
        changes = [(costs.change(forms, move), move) for move in moves]
        known = [
            (change.us / -change.nbytes, move) for change, move in changes if change.nbytes < 0
        ]
        if not known:
            return
        forms.update(min(known, key=lambda item: item[0])[1])


def approach(costs: Costs, forms: dict[str, str], bounds: Bounds, target: float) -> None:
    """Move sites to more exact forms, the best for its time first, until the target is met."""
    while costs.lost(forms) > target:
        us, nbytes = costs.us(forms), costs.nbytes(forms)
        best, found = 0.0, None
        for move in moves_from(costs, forms):
            change = costs.change(forms, move)
            fits = us + change.us <= bounds.us and nbytes + change.nbytes <= bounds.nbytes
            worth = -change.lost / max(change.us, 1e-3)
            if fits and worth > best:
                best, found = worth, move
        if found is None:
            return
        forms.update(found)


def moves_from(costs: Costs, forms: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yield a site in another form, and all of a value that are in int8: its rounding goes too."""
    for site in costs.sites:
        yield from ({site.name: form} for form in site.costs if form != forms[site.name])
    for sites in costs.readers.values():
        usual = [site for site in sites if forms[site.name] == USUAL]
        if len(usual) > 1:
            others = [form for form in usual[0].costs if form != USUAL]
            yield from ({site.name: form for site in usual} for form in others)


def relax(costs: Costs, forms: dict[str, str], start: Mapping[str, str], target: float) -> None:
    """Put sites back where the target is met without, those first that save most time."""
    tried = True
    while tried:
        tried = False
        moved = [name for name, form in forms.items() if form != start[name]]
        back = [{name: start[name]} for name in moved]
        changes = [(costs.change(forms, move), move) for move in back]
        for change, move in sorted(changes, key=lambda item: item[0].us):
            if change.us < 0 and costs.lost(forms) + change.lost <= target:
                forms.update(move)
                tried = True
                break
