"""Bundles that are damaged, foreign, newer or hostile: a code and a line, and no crash."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_lra import Runner
from edge_lra.bundle import seal
from tests.runner.tiny_decoder import change_manifest as reseal_with
from tests.runtime.cpp.abi import ALWAYS, NEVER, ONCE, Bundle, Refused
from tests.runtime.cpp.bundles import change_manifest, tokens
from tests.runtime.cpp.refusals import python_says, refusal

Change = Callable[[dict[str, Any]], None]


def test_a_missing_bundle_is_not_found(tmp_path: Path) -> None:
    found = refusal(tmp_path / "no.edge")
    assert found.code == "not_found" and found.line == python_says(tmp_path / "no.edge")


def test_a_folder_that_is_no_bundle_is_not_found(tmp_path: Path) -> None:
    found = refusal(tmp_path)
    assert found.code == "not_found" and found.line == python_says(tmp_path)


def test_a_newer_format_is_unsupported(tiny_bundle: Path) -> None:
    change_manifest(tiny_bundle, lambda manifest: manifest.update(format_version=2))
    found = refusal(tiny_bundle)
    assert found.code == "unsupported" and found.line == python_says(tiny_bundle)
    assert "found bundle format 2, expected 1" in found.line


def test_a_manifest_that_was_edited_is_damaged(tiny_bundle: Path) -> None:
    file = tiny_bundle / "manifest.json"
    file.write_text(file.read_text().replace('"tiny"', '"tony"'))
    found = refusal(tiny_bundle, verify=NEVER)
    assert found.code == "damaged" and found.line == python_says(tiny_bundle)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b"\xff\xfe",
        b'{"format_version": 1}',
        b'{"format_version": 1, "files": [], "base_fingerprint": "x"}',
        b'{"a": 1, "a": 2}',
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 100_000,
        b"[" * 5_000_000,
        b'{"a": 1} trailing',
    ],
)
def test_a_manifest_that_is_none_is_damaged(tiny_bundle: Path, content: bytes) -> None:
    (tiny_bundle / "manifest.json").write_bytes(content)
    assert refusal(tiny_bundle).code == "damaged"


def test_values_may_nest_64_deep_and_no_deeper(tiny_bundle: Path) -> None:
    def nested(depth: int) -> Any:
        return [nested(depth - 1)] if depth else 0

    reseal_with(tiny_bundle, versions=nested(63))
    Bundle(tiny_bundle).close()
    reseal_with(tiny_bundle, versions=nested(64))
    assert "nested deeper than 64" in refusal(tiny_bundle).line


def test_a_manifest_of_more_than_16_mib_is_refused(tiny_bundle: Path) -> None:
    reseal_with(tiny_bundle, name="x" * (16 << 20))
    assert "expected at most 16777216" in refusal(tiny_bundle).line


OUTSIDE = [
    "../secret",
    "/etc/passwd",
    "a/../../secret",
    "C:\\secret",
    "c:/secret",
    "a\\b",
    "",
    ".",
    "a//b",
    "a/",
    "a\0b",
]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("place", ["files", "adapters", "tokenizer"])
def test_names_that_leave_the_bundle_are_refused(tiny_bundle: Path, name: str, place: str) -> None:
    entry = {"size": 1, "sha256": "0" * 64}
    changes: dict[str, Change] = {
        "files": lambda manifest: manifest["files"].update({name: entry}),
        "adapters": lambda manifest: manifest["adapters"]["one"].update(file=name),
        "tokenizer": lambda manifest: manifest.update(tokenizer={"file": name}),
    }
    change_manifest(tiny_bundle, changes[place])
    found = refusal(tiny_bundle, verify=NEVER)
    assert found.code == "damaged"
    assert "expected files inside the bundle" in found.line or name == ""


@pytest.mark.parametrize("name", ["model.onnx", "adapters/one.safetensors", "manifest.json"])
def test_a_link_that_leaves_the_bundle_is_refused(
    tiny_bundle: Path, tmp_path: Path, name: str
) -> None:
    outside = tmp_path / "outside"
    (tiny_bundle / name).rename(outside)
    (tiny_bundle / name).symlink_to(outside)
    if name.startswith("adapters"):
        bundle = Bundle(tiny_bundle, verify=NEVER)
        with pytest.raises(Refused, match="found a link to"):
            bundle.run(tokens(), "one")
        bundle.close()
        return
    assert "found a link to" in refusal(tiny_bundle, verify=NEVER).line


def test_a_link_inside_of_the_bundle_is_fine(tiny_bundle: Path) -> None:
    (tiny_bundle / "model.onnx").rename(tiny_bundle / "graph")
    (tiny_bundle / "model.onnx").symlink_to("graph")
    Bundle(tiny_bundle).close()


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "adapters/two.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "cut", "longer", "flipped"])
def test_files_that_changed_are_damaged(tiny_bundle: Path, name: str, damage: str) -> None:
    file = tiny_bundle / name
    content = file.read_bytes()
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    file.unlink()
    if damage != "missing":
        file.write_bytes(
            {"cut": content[:-1], "longer": content + b"x", "flipped": flipped}[damage]
        )
    found = refusal(tiny_bundle)
    assert found.code == ("not_found" if damage == "missing" else "damaged")
    assert found.line == python_says(tiny_bundle)


def test_once_hashes_a_bundle_once(tiny_bundle: Path, tmp_path: Path) -> None:
    stamps = tmp_path / "stamps"
    Bundle(tiny_bundle, verify=ONCE, stamp_folder=str(stamps).encode()).close()
    assert len(list(stamps.iterdir())) == 1
    file = tiny_bundle / "model.onnx.data"
    before = file.stat()
    file.write_bytes(bytes(file.stat().st_size))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    Bundle(tiny_bundle, verify=ONCE, stamp_folder=str(stamps).encode()).close()
    assert refusal(tiny_bundle, verify=ALWAYS, stamp_folder=str(stamps).encode()).code == "damaged"
    os.utime(file)
    assert refusal(tiny_bundle, verify=ONCE, stamp_folder=str(stamps).encode()).code == "damaged"


def test_a_check_by_python_counts(tiny_bundle: Path, tmp_path: Path) -> None:
    Bundle(tiny_bundle).close()
    stamps = tmp_path / "cache/edge-lra/checked"
    (mine,) = stamps.iterdir()
    mine.unlink()
    Runner.load(tiny_bundle)
    assert [path.name for path in stamps.iterdir()] == [mine.name]


def test_a_folder_for_stamps_that_cannot_be_made_is_fine(tiny_bundle: Path) -> None:
    Bundle(tiny_bundle, stamp_folder=b"/proc/no/such").close()


def test_never_looks_at_no_file_that_is_not_opened(tiny_bundle: Path) -> None:
    (tiny_bundle / "adapters/two.safetensors").unlink()
    bundle = Bundle(tiny_bundle, verify=NEVER)
    bundle.run(tokens(), "one")
    with pytest.raises(Refused) as raised:
        bundle.run(tokens(), "two")
    assert raised.value.code == "not_found"
    bundle.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.pop("inputs"),
        lambda manifest: manifest.update(inputs=3),
        lambda manifest: manifest["inputs"][0].update(dtype=5),
        lambda manifest: manifest["inputs"][0].update(shape=[-1, 2]),
        lambda manifest: manifest["inputs"][0].update(shape=[2**64, 2]),
        lambda manifest: manifest["inputs"][0].update(shape=[1.5]),
        lambda manifest: manifest.update(max_length=-1),
        lambda manifest: manifest.update(vocabulary_size="many"),
        lambda manifest: manifest.update(adapters=[]),
        lambda manifest: manifest["adapters"]["one"].pop("file"),
        lambda manifest: manifest.update(session_options={"a": [1]}),
        lambda manifest: manifest.update(golden={"adapters": [1]}),
        lambda manifest: manifest["files"]["model.onnx"].update(size=-1),
        lambda manifest: manifest["files"]["model.onnx"].pop("sha256"),
        lambda manifest: manifest.update(base_fingerprint=None),
        lambda manifest: manifest["files"].pop("model.onnx"),
        lambda manifest: manifest.update(decoder={"cache": []}),
        lambda manifest: manifest.update(default_adapter=7),
    ],
)
def test_entries_of_another_kind_are_refused(tiny_bundle: Path, change: Change) -> None:
    change_manifest(tiny_bundle, change)
    assert refusal(tiny_bundle).code in ("damaged", "unsupported")


def test_a_default_adapter_that_is_none_is_refused(tiny_bundle: Path) -> None:
    change_manifest(tiny_bundle, lambda manifest: manifest.update(default_adapter="three"))
    assert "found 'three', expected one of: one, two" in refusal(tiny_bundle).line


def test_a_seal_is_of_the_whole_file(tiny_bundle: Path) -> None:
    file = tiny_bundle / "manifest.json"
    file.write_bytes(seal(json.loads(file.read_text())) + b" ")
    assert refusal(tiny_bundle).code == "damaged"
