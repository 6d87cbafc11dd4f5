"""Adapters: what they are, how they are read and written."""

from edge_lra.adapters.kinds import LowRank, Update
from edge_lra.adapters.read import Adapter, read_adapter

__all__ = ["Adapter", "LowRank", "Update", "read_adapter"]
