"""Adapter algebra: shrink, extract and combine low-rank adapters. No torch."""
