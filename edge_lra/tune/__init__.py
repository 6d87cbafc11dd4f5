"""The torch side of adapters: insert them, train them, choose their rank."""

from edge_lra.tune.files import load_adapter, save_adapter
from edge_lra.tune.module import Inserted, LowRankAdapter, insert

__all__ = ["Inserted", "LowRankAdapter", "insert", "load_adapter", "save_adapter"]
