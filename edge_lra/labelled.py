"""Labelled rows: what a file's labels are to a model, and how often the model finds them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from edge_lra.errors import EdgeError
from edge_lra.metrics import Array
from edge_lra.paired import paired_drop

SHOWN = 5  # labels in a warning
logger = logging.getLogger(__name__)


def place_labels(
    given: Sequence[str | None], names: Sequence[str], where: str
) -> list[int | None] | None:
    """Return each row's label as the place of a model's output.

    A file is read in one way: its labels are names if any of them is one, else places, counted
    from 0. A file with no label of either kind was labelled for another model, such as another
    adapter of the bundle; a file with some has mistakes in it.

    Args:
        given: of each row its label; None for a row without.
        names: of the outputs, in order.
        where: what the rows are from, for the error.

    Returns:
        A place a row, None for one without label; None where no label is known.

    Raises:
        EdgeError: one label is known and another is not; names the row.
    """
    readings = [{name: place for place, name in enumerate(names)}]
    readings.append({str(place): place for place in range(len(names))})
    known = next((places for places in readings if any(one in places for one in given)), None)
    if known is None:
        return None
    for number, label in enumerate(given, 1):
        if label is not None and label not in known:
            raise EdgeError(
                f"{where}: row {number}: found label {label!r}, expected one of "
                f"{', '.join(known)}; correct it, or name the outputs in order with --labels"
            )
    return [None if label is None else known[label] for label in given]


def compare_accuracy(
    given: Sequence[str | None],
    names: Sequence[str],
    where: str,
    expected: Array,
    found: Array,
) -> dict[str, float]:
    """Return `accuracies` over rows with a label; nothing where none has one of the model's.

    Warns where they have others, since a user who gave them expects an accuracy.

    Args:
        given: of each row its label; None for a row without.
        names: of the outputs, in order.
        where: what the rows are from.
        expected: (rows, labels) float logits.
        found: (rows, labels) logits of the bundle.

    Raises:
        EdgeError: as `place_labels`.
    """
    labels = sorted({label for label in given if label is not None})
    if not labels:
        return {}
    places = place_labels(given, names, where)
    if places is None:
        logger.warning(
            "%s: its labels (%s) are none of the model's (%s): no accuracy is measured",
            *(where, ", ".join(labels[:SHOWN]), ", ".join(names[:SHOWN])),
        )
        return {}
    return accuracies(expected, found, places)


def accuracies(expected: Array, found: Array, places: Sequence[int | None]) -> dict[str, float]:
    """Return both models' accuracies over the rows with a label, and what they tell of a drop.

    Args:
        expected: (rows, labels) float logits.
        found: (rows, labels) logits of the bundle.
        places: of each row its label's; None for a row without.
    """
    rows = [row for row, place in enumerate(places) if place is not None]
    wanted = np.array([place for place in places if place is not None])
    before, after = (logits[rows].argmax(-1) == wanted for logits in (expected, found))
    drop = paired_drop(before, after)
    return {
        "labelled_rows": len(rows),
        "accuracy_float": float(before.mean()),
        "accuracy": float(after.mean()),
        "accuracy_drop": drop.points,
        "accuracy_drop_low": drop.low,
        "accuracy_drop_high": drop.high,
        "accuracy_resolution": drop.resolution,
    }
