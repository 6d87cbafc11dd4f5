"""Schemes: how a linear and an embedding are stored and computed. One class each."""

from edge_lra.quantize.schemes.base import Named, Scheme
from edge_lra.quantize.schemes.blocks import Int4, Int8WeightOnly
from edge_lra.quantize.schemes.floats import Float
from edge_lra.quantize.schemes.int8 import Int8
from edge_lra.quantize.schemes.keep import KeepFloat
from edge_lra.quantize.schemes.planned import FORMS, USUAL, Planned

SCHEMES: dict[str, type[Scheme]] = {
    scheme.name: scheme for scheme in (Int8, Int8WeightOnly, Int4, Float)
}

__all__ = [
    "FORMS",
    "SCHEMES",
    "USUAL",
    "Float",
    "Int4",
    "Int8",
    "Int8WeightOnly",
    "KeepFloat",
    "Named",
    "Planned",
    "Scheme",
]
