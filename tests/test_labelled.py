"""Labels of a file as places of a model's outputs, and both models' accuracies on them."""

from __future__ import annotations

import numpy as np
import pytest

from edge_lra.errors import EdgeError
from edge_lra.labelled import accuracies, place_labels

NAMES = ("down", "up")
STARS = ("1", "2", "3")


@pytest.mark.parametrize(
    ("given", "names", "places"),
    [
        (["up", "down"], NAMES, [1, 0]),
        (["1", "0"], NAMES, [1, 0]),
        (["1", "3"], STARS, [0, 2]),  # names of digits are names
        (["up", None], NAMES, [1, None]),
        (["pos", "neg"], NAMES, None),
        (["7"], NAMES, None),
        ([None, None], NAMES, None),
    ],
)
def test_labels_are_names_or_else_places(
    given: list[str | None], names: tuple[str, ...], places: list[int | None] | None
) -> None:
    assert place_labels(given, names, "t.tsv") == places


@pytest.mark.parametrize(
    ("given", "names", "line"),
    [
        (["up", "dwon"], NAMES, "t.tsv: row 2: found label 'dwon', expected one of down, up; "),
        (["up", "0"], NAMES, "t.tsv: row 2: found label '0', expected one of down, up; "),
        (["0", None, "2"], NAMES, "t.tsv: row 3: found label '2', expected one of 0, 1; "),
        (["0", "1"], STARS, "t.tsv: row 1: found label '0', expected one of 1, 2, 3; "),
    ],
)
def test_an_unknown_label_among_known_ones_names_its_row(
    given: list[str | None], names: tuple[str, ...], line: str
) -> None:
    with pytest.raises(EdgeError) as caught:
        place_labels(given, names, "t.tsv")
    assert str(caught.value).startswith(line)


def test_accuracies_are_over_the_rows_with_a_label() -> None:
    expected = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 9.0]])
    found = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [9.0, 0.0]])
    metrics = accuracies(expected, found, [1, 0, 1, None])
    # Float finds the first two of three; the bundle the first and the third.
    assert metrics["labelled_rows"] == 3
    assert metrics["accuracy_float"] == metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["accuracy_drop"] == 0.0
    assert metrics["accuracy_drop_low"] < 0 < metrics["accuracy_drop_high"]
    assert metrics["accuracy_resolution"] == pytest.approx(100.0)
