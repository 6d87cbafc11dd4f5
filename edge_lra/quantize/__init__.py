"""Turn float weights into int8 ones, and the graph's ops with them."""

from edge_lra.quantize.schemes import SCHEMES, Scheme

__all__ = ["SCHEMES", "Scheme"]
