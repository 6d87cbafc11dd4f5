"""Forms by given errors, times and sizes: the least time within the limits."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from edge_lra.forms.choose import NEARER, SLOWER, Bounds, Cost, Costs, Site, choose
from edge_lra.quantize.schemes import FORMS

INT8, BLOCKS, FLOAT = FORMS


def site(name: str, lost: float, us: tuple[float, float, float], value: str = "") -> Site:
    costs = {
        INT8: Cost(lost, us[0], 100),
        BLOCKS: Cost(lost / 4, us[1], 112),
        FLOAT: Cost(0.0, us[2], 400),
    }
    return Site(name, 0, name, value or name, costs)


def costs_of(*sites: Site, rounding_us: float = 0.0) -> Costs:
    return Costs(sites, {item.value: rounding_us for item in sites}, 1000)


USUAL = costs_of(
    site("a", 8.0, (10, 20, 40)), site("b", 4.0, (10, 20, 40)), site("c", 1.0, (10, 20, 40))
)


def test_int8_stays_where_nothing_is_asked() -> None:
    chosen = choose(USUAL, Bounds())
    assert set(chosen.forms.values()) == {INT8}
    assert not chosen.why and chosen.binding is None


def test_what_is_slower_in_int8_goes_to_the_quickest_form_of_no_more_error() -> None:
    costs = costs_of(
        site("a", 1.0, (10, 20, 5)), site("b", 1.0, (10, 8, 9)), site("c", 1.0, (10, 20, 9.9))
    )
    chosen = choose(costs, Bounds())
    assert dict(chosen.forms) == {"a": FLOAT, "b": BLOCKS, "c": INT8}  # 1 % may be noise
    assert dict(chosen.why) == {"a": SLOWER, "b": SLOWER}


def test_a_rounding_counts_for_all_who_read_in_int8() -> None:
    floats = {"a": 12, "b": 14, "c": 50}
    three = [site(name, 1.0, (10, 30, us), "x") for name, us in floats.items()]
    assert set(choose(costs_of(*three, rounding_us=3.0), Bounds()).forms.values()) == {INT8}
    chosen = choose(costs_of(*three, rounding_us=9.0), Bounds())  # 13, then 14.5, then 19 a linear
    assert dict(chosen.forms) == {"a": FLOAT, "b": FLOAT, "c": INT8}


def test_the_error_is_taken_off_where_it_takes_least_time() -> None:
    chosen = choose(USUAL, Bounds(lost=7.5))
    assert dict(chosen.forms) == {"a": BLOCKS, "b": INT8, "c": INT8}
    assert dict(chosen.why) == {"a": NEARER}
    assert choose(USUAL, Bounds(lost=0.0)).forms == USUAL.throughout(FLOAT)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_chosen_is_near_the_best_of_all_ways(seed: int) -> None:
    random = np.random.default_rng(seed)
    sites = [
        site(name, random.uniform(1, 9), tuple(sorted(random.uniform(5, 50, 3))), name[0])
        for name in ("x1", "x2", "y", "z1", "z2", "w")
    ]
    costs = costs_of(*sites, rounding_us=4.0)
    usual = costs.throughout(INT8)
    bounds = Bounds(lost=0.3 * costs.lost(usual))
    chosen = choose(costs, bounds)
    assert costs.lost(chosen.forms) <= bounds.lost
    ways = itertools.product(FORMS, repeat=len(sites))
    every = [dict(zip(costs.by_name, way, strict=True)) for way in ways]
    best = min(costs.us(forms) for forms in every if costs.lost(forms) <= bounds.lost)
    assert costs.us(chosen.forms) <= 1.1 * best


def test_readers_of_a_value_leave_int8_together_where_its_rounding_pays_that() -> None:
    pair = [site(name, 1.0, (10, 14, 90), "x") for name in "ab"]
    costs = costs_of(*pair, site("c", 1.0, (10, 13, 90)), rounding_us=7.9)
    chosen = choose(replace(costs, rounding_us={"x": 7.9, "c": 0.0}), Bounds(lost=1.5))
    assert dict(chosen.forms) == {"a": BLOCKS, "b": BLOCKS, "c": INT8}


def test_time_and_size_bound_what_is_given_up_for_less_error() -> None:
    quick = choose(USUAL, Bounds(us=45.0, exactest=True))
    assert dict(quick.forms) == {"a": BLOCKS, "b": INT8, "c": INT8} and quick.binding is None
    small = choose(USUAL, Bounds(nbytes=1000 + 300 + 24, exactest=True))
    assert dict(small.forms) == {"a": BLOCKS, "b": BLOCKS, "c": INT8} and small.binding is None


def test_a_limit_of_size_puts_back_what_is_slower_in_int8() -> None:
    costs = costs_of(site("a", 1.0, (10, 20, 5)), site("b", 1.0, (10, 20, 9)))
    chosen = choose(costs, Bounds(nbytes=1000 + 500))
    assert dict(chosen.forms) == {"a": FLOAT, "b": INT8}
    assert choose(costs, Bounds(nbytes=1150)).binding == "size_mib"


def test_what_cannot_be_kept_is_named() -> None:
    assert choose(USUAL, Bounds(lost=2.0, us=40.0)).binding == "error"
    assert choose(USUAL, Bounds(us=29.0)).binding == "time"
    assert choose(USUAL, Bounds(lost=math.inf)).binding is None
