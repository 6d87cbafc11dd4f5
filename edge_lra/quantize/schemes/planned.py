"""Int8 with another form for the linears that a plan names."""

from __future__ import annotations

from collections.abc import Mapping

from edge_lra.quantize.schemes.base import Scheme
from edge_lra.quantize.schemes.blocks import Int8WeightOnly
from edge_lra.quantize.schemes.floats import Float
from edge_lra.quantize.schemes.int8 import Int8
from edge_lra.quantize.schemes.mix import Mix
from edge_lra.weights import Source

USUAL = Int8.name  # the form of a linear that no plan names
FORMS: dict[str, type[Scheme]] = {
    USUAL: Int8,
    Int8WeightOnly.name: Int8WeightOnly,
    "float32": Float,
}


class Planned(Mix):
    """Int8, but another form for the linears that a plan names."""

    def __init__(self, forms: Mapping[str, str]) -> None:
        """Take the form of some modules, by the checkpoint's name of each."""
        self.forms = dict(forms)
        self.unused = dict.fromkeys(forms)  # modules that were not met yet
        self.linears: list[str] = []
        self._schemes = {form: FORMS[form]() for form in dict.fromkeys([USUAL, *forms.values()])}
        usual, *others = self._schemes.values()
        super().__init__(usual, others)

    def scheme_of(self, weight: Source) -> Scheme:
        """Return the scheme of a module's form, and remember that it was met."""
        module = weight.tensor.removesuffix(".weight")
        self.linears.append(module)
        self.unused.pop(module, None)
        return self._schemes[self.forms.get(module, USUAL)]
