"""The size report: all files of a bundle are counted, other figures say where they are from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge_lra.bundle import load_manifest
from edge_lra.embed.platforms import PLATFORMS
from edge_lra.embed.sizes import bundle_sizes, library_sizes, measured, totals


def test_every_byte_of_a_bundle_is_counted_once(made_factored: Path) -> None:
    manifest = load_manifest(made_factored)
    sizes = bundle_sizes(manifest, (made_factored / "manifest.json").stat().st_size)
    there = sum(path.stat().st_size for path in made_factored.rglob("*") if path.is_file())
    assert sum(size.bytes for size in sizes) == there
    assert [size.part for size in sizes] == ["model", "adapters", "tokenizer", "other"]
    files = (made_factored / "adapters").iterdir()
    assert sizes[1].bytes == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_platform_s_onnxruntime_was_measured(platform: str, made_factored: Path) -> None:
    sizes = library_sizes(platform)
    assert [size for size in sizes if size.part == "onnxruntime"]
    own = bundle_sizes(load_manifest(made_factored), 100)
    bundle = sum(size.bytes for size in own)
    for host, total in totals([*own, *sizes]).items():
        assert total == bundle + sum(size.bytes for size in sizes if size.host == host)


def test_a_figure_names_the_version_and_the_package_it_is_of() -> None:
    for kind, entries in measured().items():
        for entry in entries:
            version = r"^onnxruntime(-\w+)? \d+\.\d+\.\d+: " if kind == "library" else r" \d+\.\d+"
            assert re.search(version, entry["what"]), entry
            assert re.search(r"\d+\.\d+", entry["source"]), entry
            assert 0 < entry["compressed_bytes"] < entry["bytes"]
            assert set(entry["platforms"]) <= PLATFORMS.keys()
