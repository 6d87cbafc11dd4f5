"""Memory of a measured process by part, from what the agent read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edge_lra.profile.measurement import Mark, Memory, Sample

UNTOLD = "memory by part: the system does not tell anonymous memory from mapped files"
PACKED = "memory by part: prepacked copies could not be told apart and count as other"


def read_memory(
    found: Mapping[str, Any], unpacked_mib: float | None, cache_mib: float = 0.0
) -> tuple[Memory, tuple[str, ...]]:
    """Return the memory of an answer to "measure", and what could not be told.

    Args:
        found: its `memory`.
        unpacked_mib: anonymous memory that a load without prepacking takes; None if unknown.
        cache_mib: that keys and values fill.
    """
    samples = tuple(Sample(*row) for row in found["samples"])
    marks = tuple(Mark(*row) for row in found["marks"])
    imports_mib = next(s.rss_mib for s in samples if s.second >= marks[0].second)
    # Linux counts pages by processor and adds them up now and then: a sample may be ahead.
    peak_mib = max(float(found["peak_rss_mib"]), *(sample.rss_mib for sample in samples))
    model_mib = max(0.0, peak_mib - imports_mib)
    parts, doubt = split_parts(model_mib, found["split"], unpacked_mib, cache_mib)
    memory = Memory(
        peak_rss_mib=peak_mib,
        steady_rss_mib=samples[-1].rss_mib,
        model_rss_mib=model_mib,
        steady_pss_mib=samples[-1].pss_mib,
        samples=samples,
        marks=marks,
        parts_mib=parts,
    )
    return memory, doubt


def as_the_system_saw(memory: Memory, process_mib: Mapping[str, float | None] | None) -> Memory:
    """Return memory with what was read of the process from outside, where that was done.

    Args:
        memory: as the process told it.
        process_mib: of an answer over adb: peak_rss, steady_rss, steady_pss, meminfo_pss.
    """
    if not process_mib:
        return memory
    peak = process_mib.get("peak_rss") or 0.0
    pss = process_mib.get("meminfo_pss") or process_mib.get("steady_pss")
    return replace(
        memory,
        peak_rss_mib=max(memory.peak_rss_mib, peak),
        steady_pss_mib=memory.steady_pss_mib if pss is None else pss,
    )


def split_parts(
    model_mib: float,
    split: Mapping[str, float] | None,
    unpacked_mib: float | None,
    cache_mib: float = 0.0,
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Split a bundle's share; the parts sum to it.

    mapped weights: resident pages of the bundle's files.
    library code: other pages of files that became resident after the imports: kernels in use.
    prepacked copies: what loading took in anonymous memory above a load without prepacking.
    keys and values: of a language model's cache, as far as tokens fill it.
    arena: other anonymous memory that the runs added: activations and kernels' scratch buffers, in
        onnxruntime's arena or beside it, which the system does not tell apart.
    other: the session's graph, and what a load or a run gave back before the end.

    Args:
        model_mib: the share.
        split: the agent's; None where the system does not tell.
        unpacked_mib: as in `read_memory`.
        cache_mib: as in `read_memory`.
    """
    if split is None:
        return {"other": model_mib}, (UNTOLD,)
    grown = split["loaded_anonymous_mib"] - split["imported_anonymous_mib"]
    files = split["ended_file_mib"] - split["imported_file_mib"]
    wanted = {"mapped weights": split["mapped_mib"], "library code": files - split["mapped_mib"]}
    if unpacked_mib is not None:
        wanted["prepacked copies"] = min(grown, grown - unpacked_mib)
    if cache_mib:
        wanted["keys and values"] = cache_mib
    wanted["arena"] = split["ended_anonymous_mib"] - split["loaded_anonymous_mib"] - cache_mib
    parts, left = {}, model_mib
    for name, mib in wanted.items():
        parts[name] = min(max(0.0, mib), left)
        left -= parts[name]
    return {**parts, "other": left}, () if unpacked_mib is not None else (PACKED,)
