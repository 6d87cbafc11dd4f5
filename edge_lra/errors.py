"""The errors a user can act on; everything else is a defect of this package."""

from __future__ import annotations


class EdgeError(Exception):
    """A mistake the user can fix, said in one line: where, found, expected; remedy."""

    exit_code = 1


class GateError(EdgeError):
    """A fidelity gate or a limit was not met; nothing was written."""

    exit_code = 3


class FidelityError(GateError):
    """A bundle was not close enough to the float model.

    Attributes:
        worst_layers: indices of the layers where the error grows most, the worst first.
    """

    def __init__(self, line: str, worst_layers: tuple[int, ...] = ()) -> None:
        super().__init__(line)
        self.worst_layers = worst_layers
