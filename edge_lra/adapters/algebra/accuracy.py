"""Accuracy of candidate adapters over one int8 base, measured with the runner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_lra.adapters.kinds import LowRank
from edge_lra.adapters.saved import Array
from edge_lra.adapters.write import write_peft
from edge_lra.errors import EdgeError
from edge_lra.extend import AddRequest, add_adapter
from edge_lra.inputs import ExportRequest
from edge_lra.labelled import place_labels
from edge_lra.pipeline import export
from edge_lra.runner import Runner
from edge_lra.texts import Row


class Accuracy:
    """Exports an adapter factored once; each candidate is added to that bundle and run."""

    def __init__(
        self,
        folder: Path,
        adapter: Path,
        model: str | None,
        rows: Sequence[Row],
        labels: Sequence[str] | None,
    ) -> None:
        """Export the adapter.

        Args:
            folder: an empty one for the bundle and the candidates.
            adapter: the original.
            model: its base; None for the one it names.
            rows: labelled texts.
            labels: names of the adapter's outputs, in order.

        Raises:
            EdgeError: the adapter is no classifier, or a row's label is none of its outputs.
        """
        self.folder, self.model = folder, model
        self.bundle = export(
            ExportRequest(
                folder / "bundle.edge",
                model,
                [("original", adapter)],
                mode="factored",
                labels=labels,
                verify=False,
            )
        )
        manifest = Runner.load(self.bundle, verify="never").manifest
        if manifest["task"] != "sequence-classification":
            raise EdgeError(
                f"{adapter}: found task {manifest['task']}, expected sequence-classification for "
                "an accuracy; use --rank, --energy or --limit size=.."
            )
        self.rows, self.wanted = rows, _indices(rows, manifest["labels"])
        self.labels: list[str] = manifest["labels"]
        self._count = 0

    def original(self) -> float:
        """Return the original's accuracy in points."""
        return self._measure("original")

    def candidate(
        self, config: Mapping[str, Any], sites: Mapping[str, LowRank], whole: Mapping[str, Array]
    ) -> float:
        """Return the accuracy in points of an adapter with these factors."""
        self._count += 1
        name = f"candidate-{self._count}"
        place = self.folder / name
        place.mkdir()
        write_peft(place, config, sites, whole)
        add_adapter(AddRequest(self.bundle, place, name, self.model, verify=False))
        return self._measure(name)

    def _measure(self, name: str) -> float:
        runner = Runner.load(self.bundle, verify="never")
        answers = runner.classify([row.text for row in self.rows], adapter=name)
        right = sum(
            self.labels.index(answer.label) == wanted
            for answer, wanted in zip(answers, self.wanted, strict=True)
        )
        return 100 * right / len(self.rows)


def _indices(rows: Sequence[Row], labels: Sequence[str]) -> list[int]:
    """Return each row's label as the place of an output: by name, or as a number."""
    given = [row.label or None for row in rows]
    found = place_labels(given, labels, "--data") or [None] * len(rows)
    places = [place for place in found if place is not None]
    if len(places) < len(rows):
        row = found.index(None)
        raise EdgeError(
            f"--data: row {row + 1}: found label {given[row]!r}, expected one of "
            f"{', '.join(labels)}; name the outputs in order with --labels"
        )
    return places
