"""Low-rank adapters: what they are and how they are read."""

from edge_lra.adapters.kinds import LowRank
from edge_lra.adapters.read import Adapter, read_adapter

__all__ = ["Adapter", "LowRank", "read_adapter"]
