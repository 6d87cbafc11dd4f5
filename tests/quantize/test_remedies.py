"""Remedies by name: the usual ones are left out, the others asked for."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from edge_lra.errors import EdgeError
from edge_lra.quantize.remedies import OPTIONAL, REMEDIES, Remedies, choose_remedies


def test_every_remedy_is_on_or_off_unless_asked() -> None:
    named = {name.replace("-", "_"): name in REMEDIES for name in (*REMEDIES, *OPTIONAL)}
    assert named == asdict(Remedies()) == asdict(choose_remedies())


def test_a_name_turns_one_remedy_alone() -> None:
    assert choose_remedies(["gptq"]) == Remedies(gptq=False)
    assert choose_remedies(["static-scales"], ["refit"]) == Remedies(
        static_scales=False, refit=True
    )


@pytest.mark.parametrize(
    ("without", "with_", "line"),
    [
        (["magic"], [], "without: found 'magic', expected one of smoothing, "),
        ([], ["magic"], "with: found 'magic', expected one of refit"),
        (["refit"], [], "without: found 'refit', expected one of smoothing, "),  # it is not on
        ([], ["gptq"], "with: found 'gptq', expected one of refit"),  # it is
    ],
)
def test_another_name_is_told_with_the_known_ones(
    without: list[str], with_: list[str], line: str
) -> None:
    with pytest.raises(EdgeError) as caught:
        choose_remedies(without, with_)
    assert str(caught.value).startswith(line)
