"""The size report: all files of a bundle are counted, other figures say where they are from."""

from __future__ import annotations

import re
from pathlib import Path

import onnxruntime
import pytest

from edge_lra.bundle import load_manifest
from edge_lra.embed.platforms import PLATFORMS
from edge_lra.embed.sizes import bundle_sizes, library_sizes, measured, totals
from tests.embed.measure import measure


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
        shipped = [size for size in sizes if size.host in (host, None)]
        assert total == bundle + sum(size.bytes for size in shipped)


def test_the_installed_onnxruntime_has_the_size_recorded_of_its_version() -> None:
    (file,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
    entries = [entry for entry in measured()["library"] if file.name in entry["what"]]
    assert file.stat().st_size in [entry["bytes"] for entry in entries]


def test_files_are_deflated_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a" * 1000)
    plain, packed = measure([tmp_path / "a"])
    assert plain == 1000 and packed < 20
    assert measure([tmp_path / "a", tmp_path / "a"]) == (2 * plain, 2 * packed)


def test_a_figure_names_the_version_and_the_package_it_is_of() -> None:
    for kind, entries in measured().items():
        for entry in entries:
            version = r"^onnxruntime(-\w+)? \d+\.\d+\.\d+: " if kind == "library" else r"\w"
            assert re.search(version, entry["what"]), entry
            assert re.search(r"\d+\.\d+", entry["source"]), entry
            assert 0 < entry["compressed_bytes"] < entry["bytes"]
            assert set(entry["platforms"]) <= PLATFORMS.keys()
