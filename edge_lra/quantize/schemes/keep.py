"""A scheme with float32 for the linears that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from edge_lra.quantize.schemes.base import Scheme
from edge_lra.quantize.schemes.floats import Float
from edge_lra.quantize.schemes.mix import Mix
from edge_lra.weights import Source


class KeepFloat(Mix):
    """A scheme, but float32 for the linears that a user names."""

    def __init__(self, scheme: Scheme, patterns: Sequence[str]) -> None:
        """Take shell patterns of the modules' names, such as `encoder.layer.5.*`."""
        self.float = Float()
        super().__init__(scheme, [self.float])
        self.patterns = tuple(patterns)
        self.unused = dict.fromkeys(patterns)  # those that fitted nothing yet
        self.linears: list[str] = []

    def scheme_of(self, weight: Source) -> Scheme:
        """Return float32's where a pattern fits the module, and remember which did."""
        module = weight.tensor.removesuffix(".weight")
        self.linears.append(module)
        fitting = [pattern for pattern in self.patterns if fnmatchcase(module, pattern)]
        for pattern in fitting:
            self.unused.pop(pattern, None)
        return self.float if fitting else self.scheme
