"""Manifests that point outside their bundle, or that no parser should take."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_lra.bundle import MANIFEST, check_files, describe_files, load_manifest, seal
from edge_lra.errors import EdgeError
from edge_lra.inside import stays_inside

ENTRY = {"size": 3, "sha256": "0" * 64}
OUTSIDE = [
    *("", "/etc/passwd", "../x", "a/../../x", "a\\b", "..\\x", "C:x", "c:/x", "ab:c", "a\0b"),
    *(".", "./x", "a//b", "a/", 3, None),
]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a sealed manifest beside a graph of three bytes."""

    def made(**entries: Any) -> Path:
        folder = tmp_path / "x.edge"
        (folder / "adapters").mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_text("one")
        files = describe_files(folder)
        manifest = {"format_version": 1, "base_fingerprint": "", "files": files, **entries}
        (folder / MANIFEST).write_bytes(seal(manifest))
        return folder

    return made


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_outside_the_bundle_is_refused(name: object) -> None:
    assert not stays_inside(name)


@pytest.mark.parametrize("name", ["model.onnx", "adapters/a.safetensors", "a..b", "x/.y"])
def test_a_name_inside_the_bundle_is_taken(name: str) -> None:
    assert stays_inside(name)


@pytest.mark.parametrize("name", [name for name in OUTSIDE if isinstance(name, str)])
def test_no_file_of_a_manifest_may_be_outside(write: Write, name: str) -> None:
    line = f"found {name!r}, expected files inside the bundle"
    adapter = {"file": name, "rank": 1, "labels": None, "base": ""}
    for entries in (
        {"files": {name: ENTRY}},
        {"adapters": {"a": adapter}},
        {"tokenizer": {"file": name}},
    ):
        with pytest.raises(EdgeError) as caught:
            load_manifest(write(**entries))
        assert line in str(caught.value) and MANIFEST in str(caught.value)


@pytest.mark.parametrize(
    "entries",
    [
        {"files": {"x": 3}},
        {"files": {"x": {"size": 3}}},
        {"files": {"x": {"size": True, "sha256": "0" * 64}}},
        {"files": {"x": {"size": 3, "sha256": "0" * 63}}},
        {"files": {"x": {"size": 3, "sha256": None}}},
        {"adapters": {"a": "x"}},
        {"adapters": {"a": {}}},
        {"adapters": ["a"]},
        {"tokenizer": "tokenizer.json"},
        {"tokenizer": {"pad_id": 0}},
    ],
)
def test_entries_of_another_kind_are_refused(write: Write, entries: dict[str, Any]) -> None:
    with pytest.raises(EdgeError, match=r"manifest\.json: found .*, expected"):
        load_manifest(write(**entries))


@pytest.mark.parametrize(("depth", "taken"), [(64, True), (65, False), (5000, False)])
def test_json_is_read_to_a_depth(write: Write, depth: int, taken: bool) -> None:
    inner: Any = [1]
    for _ in range(min(depth, 900) - 2):
        inner = [inner]
    folder = write(labels=inner)
    if depth > 900:  # deeper than Python's own parser goes
        text = (folder / MANIFEST).read_text().replace('"labels": [', '"labels": ' + "[" * depth)
        (folder / MANIFEST).write_text(text)
    if taken:
        assert load_manifest(folder)["labels"] == inner
    else:
        with pytest.raises(EdgeError, match="found a corrupt file"):
            load_manifest(folder)


def test_a_manifest_of_another_size_is_not_read(write: Write) -> None:
    folder = write()
    with (folder / MANIFEST).open("ab") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(EdgeError, match="found more than 16777216 bytes"):
        load_manifest(folder)


def test_a_link_out_of_the_bundle_is_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("two")
    folder = write(files={"model.onnx": ENTRY, "adapters/a": ENTRY})
    (folder / "adapters/a").symlink_to(tmp_path / "secret")
    with pytest.raises(EdgeError, match=r"adapters/a: found a link to .*secret"):
        load_manifest(folder)


def test_a_linked_folder_inside_is_refused_if_it_leads_out(write: Write, tmp_path: Path) -> None:
    folder = write(adapters={"a": {"file": "adapters/a"}})
    (folder / "adapters").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a").write_text("two")
    (folder / "adapters").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EdgeError, match=r"adapters/a: found a link to .*elsewhere/a"):
        load_manifest(folder)


def test_links_inside_the_bundle_and_to_it_are_taken(write: Write, tmp_path: Path) -> None:
    folder = write()
    (folder / "model.onnx").rename(folder / "real")
    (folder / "model.onnx").symlink_to("real")
    (tmp_path / "link").symlink_to(folder)
    manifest = load_manifest(tmp_path / "link")
    check_files(tmp_path / "link", manifest)
    assert json.loads((folder / MANIFEST).read_text()) == manifest
