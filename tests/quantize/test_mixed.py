"""What 4 bits of a linear change in its layer, and which linears have 8 for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_lra.checkpoint import Checkpoint
from edge_lra.graph.encoder import EncoderBuilder
from edge_lra.graph.plan import Plan
from edge_lra.quantize import SCHEMES
from edge_lra.quantize.blockwise import quantize_blocks
from edge_lra.quantize.calibrate import EncoderRun
from edge_lra.quantize.compensate import compensate_blocks, couple, output_error
from edge_lra.quantize.mixed import READS, Change, TrialRun, as_rounded, finer_sites
from edge_lra.quantize.readings import MomentFile
from edge_lra.recipe import find_recipe
from edge_lra.weights import Source

Array = np.ndarray
TEXTS = [np.arange(2, 2 + length) for length in (5, 9, 7)]


def builder_of(tiny: Path) -> EncoderBuilder:
    base = Checkpoint(tiny / "model")
    recipe = find_recipe(base.config)
    names = recipe.resolve(base.tensors)
    return EncoderBuilder(
        Plan(recipe, base.config, base, SCHEMES["int4"](), "feature-extraction", names)
    )


def trials_of(builder: EncoderBuilder, compensates: bool) -> TrialRun:
    parts = builder.recipe, builder.plan.config, builder.epsilon, builder.source, MomentFile()
    return TrialRun(*parts, builder.mixed_sites(), compensates)


def plain_run(builder: EncoderBuilder, source: Callable[[str], Source]) -> EncoderRun:
    return EncoderRun(builder.recipe, builder.plan.config, builder.epsilon, source, MomentFile())


def layer_output(run: EncoderRun) -> Array:
    """Return the first layer's output for all texts."""
    names = {role: name.format(i=0) for role, name in run.recipe.layer.items()}
    return run.layer(run.embed(TEXTS), names, np.cumsum([len(ids) for ids in TEXTS])[:-1])


@pytest.mark.parametrize("role", READS)
def test_a_change_is_that_of_the_layer_with_the_rounded_weight(tiny: Path, role: str) -> None:
    builder = builder_of(tiny)
    trials = trials_of(builder, compensates=False)
    trials.run(TEXTS)
    module = builder.recipe.layer[role].format(i=0)

    def rounded(name: str) -> Source:
        source = builder.source(name)
        if name != f"{module}.weight":
            return source
        weight = np.concatenate([rows for _, rows in source.chunks()])
        return replace(source, replacement=quantize_blocks(weight, 4).weight(4, weight.shape[1]))

    exact = layer_output(plain_run(builder, builder.source))
    changed = layer_output(plain_run(builder, rounded))
    expected = ((changed - exact) ** 2).sum() / (exact**2).sum()
    assert trials.changes[module].lost == pytest.approx(expected, rel=1e-6)
    assert expected > 0


def test_trials_leave_the_readings_as_they_are(tiny: Path) -> None:
    builder = builder_of(tiny)
    found = trials_of(builder, compensates=True).run(TEXTS)
    expected = plain_run(builder, builder.source).run(TEXTS)
    assert found.keys() == expected.keys()
    for name, reading in expected.items():
        np.testing.assert_array_equal(found[name].low, reading.low)
        assert reading.moment is not None and found[name].moment is not None
        np.testing.assert_array_equal(found[name].moment(), reading.moment())


def test_every_linear_of_every_layer_is_tried_with_its_size(tiny: Path) -> None:
    builder = builder_of(tiny)
    trials = trials_of(builder, compensates=True)
    trials.run(TEXTS)
    sizes = {"up": 64 * 32, "down": 64 * 32}
    expected = {
        name.format(i=i): sizes.get(role, 32 * 32)
        for i in range(2)
        for role, name in builder.recipe.layer.items()
        if role in READS
    }
    assert {name: change.weights for name, change in trials.changes.items()} == expected


def test_a_stand_in_is_off_as_far_as_compensation_leaves_a_weight() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(2000, 24)) @ random.normal(size=(24, 96))
    values += 0.3 * random.normal(size=values.shape)
    weight = random.normal(size=(64, 96))
    coupling = couple(values.T @ values / len(values))
    left = compensate_blocks(weight, coupling, 4).error.lost
    plain, compensated = (
        output_error(weight, as_rounded(weight, coupling, way), coupling.moment).lost
        for way in (False, True)
    )
    assert left < 0.6 * plain
    assert 0.8 * left < compensated < 1.6 * left


def test_those_that_gain_most_a_weight_have_8_bits_while_there_is_room() -> None:
    changes = {
        "wide": Change(9.0, 60),
        "second": Change(4.0, 20),
        "first": Change(5.0, 10),
        "last": Change(0.1, 10),
    }
    assert finer_sites(changes, 0.9) == ("wide", "second", "first")
    assert finer_sites(changes, 0.5) == ("second", "first", "last")  # the wide one does not fit
    assert finer_sites(changes, 0.0) == finer_sites({}, 0.5) == ()
