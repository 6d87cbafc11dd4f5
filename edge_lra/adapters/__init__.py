"""Low-rank adapters: what they are and how they are read."""

from edge_lra.adapters.kinds import LowRank

__all__ = ["LowRank"]
