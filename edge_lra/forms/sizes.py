"""How many bytes of the weights' file each form of each linear takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edge_lra.forms.linears import Linear
from edge_lra.graph.encoder import EncoderBuilder
from edge_lra.graph.plan import Plan
from edge_lra.quantize.readings import Reading
from edge_lra.quantize.schemes import FORMS, Planned
from edge_lra.weights import Spec
from edge_lra.writer import plan_layout

FEW = ".outliers"  # in the name of what only int8 of the down projection needs


class KnownBuilder(EncoderBuilder):
    """A builder that is told what calibration found."""

    def __init__(self, plan: Plan, readings: Mapping[str, Reading]) -> None:
        """Take a plan and the readings of its calibration."""
        super().__init__(plan)
        self._readings = dict(readings)

    def calibrate(self) -> dict[str, Reading]:
        """Return what was found before."""
        return self._readings


def form_bytes(
    plan: Plan, readings: Mapping[str, Reading], linears: Sequence[Linear]
) -> tuple[dict[tuple[str, str], int], int]:
    """Return the bytes of each linear, by name and form, and those of all else.

    Args:
        plan: of the export.
        readings: of its calibration.
        linears: of the encoder.
    """
    found: dict[tuple[str, str], int] = {}
    rest = 0
    for form in FORMS:
        forms = {linear.name: form for linear in linears}
        specs = specs_of(plan, readings, forms)
        sizes: dict[str | None, int] = dict.fromkeys(forms, 0)
        for name, size in extents(specs).items():
            own = owner(name, linears)
            sizes[own] = sizes.get(own, 0) + size
        rest = sizes.pop(None)
        found |= {(str(name), form): size for name, size in sizes.items()}
    return found, rest


def file_bytes(plan: Plan, readings: Mapping[str, Reading], forms: Mapping[str, str]) -> int:
    """Return the size of the weights' file with some linears in forms."""
    return plan_layout(specs_of(plan, readings, forms)).size


def specs_of(plan: Plan, readings: Mapping[str, Reading], forms: Mapping[str, str]) -> list[Spec]:
    """Return what is stored with some linears in forms, in the file's order."""
    built = KnownBuilder(replace(plan, scheme=Planned(forms)), readings).build()
    return [spec for weight in built.builder.weights for spec in weight.specs]


def owner(name: str, linears: Sequence[Linear]) -> str | None:
    """Return the linear that a stored tensor belongs to; None where all forms have it."""
    for place, linear in enumerate(linears):
        if name.startswith(f"{linear.module}.") and FEW in name and linear.role == "up":
            return linears[place + 1].name  # its down projection's
        if name.startswith(f"{linear.module}.weight"):
            return linear.name
    return None


def extents(specs: Sequence[Spec]) -> dict[str, int]:
    """Return the bytes of the file from each tensor's begin to the next one's."""
    layout = plan_layout(list(specs))
    ends = [*list(layout.offsets.values())[1:], layout.size]
    return {
        name: end - start for (name, start), end in zip(layout.offsets.items(), ends, strict=True)
    }
