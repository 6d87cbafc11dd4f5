"""Profiles of every kind, with numbers such as a MiniLM's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edge_lra.profile.latencies import Decoding, Shape, Timing
from edge_lra.profile.measurement import (
    KeysAndValues,
    Layer,
    Mark,
    Measurement,
    Memory,
    Operator,
    Sample,
    Span,
    Start,
    Step,
    Threads,
)
from edge_lra.profile.result import Emulation, Entry, Estimate, Profile, Ratio, ShapeEstimate
from edge_lra.transport.base import Host

EPYC = Host(
    "x86_64", "Linux 6.1.0", "AMD EPYC 9R14", 2, ("avx2", "avx512_vnni"), 7680.0, 5120.0, 20480.0,
    {"python": "3.11.2", "onnxruntime": "1.32.0", "numpy": "2.3.4", "edge-lra": "0.1.0"},
)  # fmt: skip
PI = Host("aarch64", "Linux 6.6.20", "Cortex-A76", 4, ("asimddp",), 8052.0, 7300.0, 51200.0)
FILES = {"model.onnx": 61_440, "model.onnx.data": 23_068_672, "golden.safetensors": 421_888}
NODES = {  # a layer's nodes and their microseconds
    "DynamicQuantizeLinear": (3, 31.0),
    "MatMulIntegerToFloat": (3, 118.0),
    "MultiHeadAttention": (1, 142.0),
    "DynamicQuantizeMatMul": (3, 92.0),
    "LayerNormalization": (2, 24.0),
    "Gelu": (1, 71.0),
}
LAYERS = 6


def timing(shape: Shape, median_ms: float, runs: int = 200, outlier_ms: float = 0.0) -> Timing:
    """Return latencies with a tail to the right, and one far from all others if it is asked for."""
    random = np.random.default_rng(shape)
    values = median_ms * (
        1 + 0.02 * random.standard_normal(runs) + 0.01 * random.exponential(1, runs)
    )
    if outlier_ms:
        values[runs // 3] = outlier_ms
    return Timing(shape, tuple(float(value) for value in values))


def spans() -> tuple[Span, ...]:
    """Return the nodes of one run, an embedding, the layers and a head, with gaps between."""
    found, now = [], 4.0
    nodes = [("embeddings", "Gather", 180.0), ("embeddings", "LayerNormalization", 26.0)]
    for layer in range(LAYERS):
        for operator, (times, micros) in NODES.items():
            nodes += [(f"layer {layer}", operator, micros + 2.5 * layer)] * times
    nodes += [("head", "Gemm", 14.0)]
    for place, (layer, operator, micros) in enumerate(nodes):
        found.append(Span(f"/{layer}/{operator}_{place}", operator, layer, now, micros))
        now += micros + 1.5
    return tuple(found)


def _sum(key: str) -> list[tuple[str, int, float]]:
    names = list(dict.fromkeys(getattr(span, key) for span in spans()))
    return [
        (name, len(own), sum(own) / 1e3)
        for name in names
        for own in [[s.duration_us for s in spans() if getattr(s, key) == name]]
    ]


def memory(peak: float = 92.1, rate: int = 50) -> Memory:
    """Return a timeline of three seconds that rises at load and at the first run."""
    seconds = np.arange(0, 3.2, 1 / rate)
    base = peak - 44.1
    level = base + np.where(seconds > 0.1, 38.0, 380 * seconds) + np.where(seconds > 0.2, 6.1, 0)
    samples = tuple(
        Sample(float(second), float(rss), float(rss - 6.5))
        for second, rss in zip(seconds, level, strict=True)
    )
    return Memory(
        peak, peak - 1.4, 44.1, peak - 8.0, samples,
        (Mark("loaded", 0.101), Mark("first run", 0.212), Mark("steady", 0.25)),
        {"mapped weights": 20.2, "prepacked copies": 14.6, "arena": 5.9, "other": 3.4}, 3.1,
    )  # fmt: skip


def measured(scale: float = 1.0, host: Host = EPYC, **changes: Any) -> Measurement:
    """Return what a run on a host gives; `changes` replace fields."""
    operators = [Operator(n, k, scale * ms) for n, k, ms in _sum("operator")]
    whole = {
        "host": host.as_dict(),
        "transport": "local" if host is EPYC else "ssh",
        "threads": 1,
        "start": Start(0.612, 0.412, 0.101, 9.31 * scale),
        "memory": memory(),
        "timings": (
            timing((1, 16), 1.48 * scale),
            timing((1, 128), 6.2 * scale, outlier_ms=61.0),
            timing((8, 128), 45.3 * scale),
        ),
        "operators": tuple(sorted(operators, key=lambda operator: -operator.mean_ms)),
        "layers": tuple(Layer(n, k, scale * ms) for n, k, ms in _sum("layer")),
        "spans": spans(),
        "switch_ms": 0.42,
        "sweep": (Threads(1, 1.48), Threads(2, 0.93)),
    }
    return Measurement(**(whole | changes))


def generating(scale: float = 1.0, **changes: Any) -> Measurement:
    """Return what a language model's measurement gives: prompts, tokens, keys and values."""
    caches = (KeysAndValues(128, 5.6, 11.2), KeysAndValues(1024, 45.0, 90.0))
    tokens = (
        Decoding(128, timing((1, 1), 8.6 * scale).latencies_ms),
        Decoding(1024, timing((1, 2), 21.4 * scale, outlier_ms=90.0).latencies_ms),
    )
    operators = tuple(Operator(n, k, ms) for n, k, ms in _sum("operator"))
    layers = tuple(Layer(n, k, ms) for n, k, ms in _sum("layer"))
    whole: dict[str, Any] = {
        "memory": replace(memory(332.0), shape=(1, 1024), context=1024, caches=caches),
        "decoding": tokens,
        "step": Step(128, operators, layers, spans()),
        "sweep": (Threads(1, 164.0, 8.6), Threads(2, 86.0, 5.1)),
    }
    return measured(scale, **(whole | changes))


def emulated(**changes: Any) -> Emulation:
    whole = {
        "host": Host("aarch64", "Linux 6.1.0", "Cortex-A76", 2, ("asimddp",)).as_dict(),
        "cpu": "cortex-a76",
        "emulator": "qemu-aarch64 10.0.2",
        "matmuls": 24,
        "matmuls_equal": 24,
        "unequal": (),
        "cases": 12,
        "max_abs_error": 0.0123,
        "max_abs_error_float": 0.0985,
        "allowed_error_float": 0.131,
        "decided": 11,
        "agreed": 11,
        "kernels": ("udot 8x8 (MatMulInteger)", "fmla 6x16 (MatMul)"),
        "instructions": {"1x16": 212_345_678, "1x128": 1_634_567_890},
        "instructions_note": "counted by qemu's plugin, the second run of two",
        "passed": True,
    }
    return Emulation(**(whole | changes))


def estimated(**changes: Any) -> Estimate:
    classes = {"matmul int8": 13.2, "attention": 4.1, "elementwise": 3.9, "overhead of nodes": 0.9}
    whole = {
        "threads": 1,
        "shapes": (
            ShapeEstimate((1, 16), 3.1, 4.2, 6.0, {n: v / 5 for n, v in classes.items()}),
            ShapeEstimate((1, 128), 17.9, 22.1, 31.2, classes),
        ),
        "load_s": (0.09, 0.21),
        "peak_rss_mib": (71.0, 108.0),
        "fits": True,
        "assumptions": (
            "one of 4 Cortex-A76 at 2.4 GHz; the clock does not fall",
            "16 int8 products an instruction (SDOT), 32 a cycle",
            "weights are read from memory once a run, at 4.9 GB/s",
            "onnxruntime spends 4 us a node",
            "the page cache holds the bundle",
        ),
        "calibration_error": {"matmul int8": 0.08, "attention": -0.14, "total": 0.06},
    }
    return Estimate(**(whole | changes))


def entry(bundle: str = "sentiment.edge", device: str = "host", **parts: Any) -> Entry:
    """Return an entry of the parts that are given."""
    titles = {"host": "this machine", "pi5": "Raspberry Pi 5", "arm64": "a 64-bit ARM board"}
    title = titles.get(device, device)
    return Entry(bundle, "sentiment", "merged", "int8", FILES, device, title, **parts)


def profile(*entries: Entry, ratios: tuple[Ratio, ...] = ()) -> Profile:
    return Profile(entries, ratios, {"edge-lra": "0.1.0", "onnxruntime": "1.32.0"})


def against() -> Profile:
    """Return two bundles that ran in turns."""
    ratios = (
        Ratio((1, 16), 1.004, (0.991, 1.017)),
        Ratio((1, 128), 1.243, (1.221, 1.262)),
        Ratio((8, 128), 0.951, (0.93, 0.97)),
    )
    entries = (entry(measured=measured()), entry("other.edge", measured=measured(1.2)))
    return profile(*entries, ratios=ratios)


def tokens() -> Profile:
    """Return two language models that ran in turns."""
    ratios = (Ratio((1, 128), 1.2, (1.1, 1.3)), Ratio((1, 1), 1.1, (1.05, 1.15), 128))
    entries = (entry("m.edge", measured=generating()), entry("n.edge", measured=generating(1.1)))
    return profile(*entries, ratios=ratios)


def everything() -> Profile:
    """Return all ways on several devices."""
    pi = measured(3.0, PI, warnings=("the clock fell from 2.4 to 1.5 GHz while it ran",))
    return profile(
        entry(measured=measured()),
        entry(device="pi5", measured=pi),
        entry(device="arm64", emulated=emulated(), estimated=estimated()),
    )
