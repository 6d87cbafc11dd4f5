"""Adapters for another base, with other tensors, or in files that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from tests.runtime.cpp.abi import NEVER, Bundle, Refused
from tests.runtime.cpp.bundles import WIDTH, change_manifest, tokens


def run_adapter(folder: Path, content: bytes | None = None, **options: Any) -> Refused:
    """Return how a run with the adapter `two` is refused, once its file has other bytes."""
    if content is not None:
        (folder / "adapters/two.safetensors").write_bytes(content)
    bundle = Bundle(folder, **options)
    with pytest.raises(Refused) as raised:
        bundle.run(tokens(), "two")
    bundle.run(tokens(), "one")
    bundle.close()
    return raised.value


def test_an_adapter_of_another_base_is_foreign(tiny_bundle: Path) -> None:
    change_manifest(tiny_bundle, lambda manifest: manifest["adapters"]["two"].update(base="f" * 64))
    found = run_adapter(tiny_bundle)
    assert found.code == "foreign_adapter"
    assert found.line.startswith("adapter two: is foreign: found base ffffffffffff, expected ")


def test_an_adapter_that_changes_after_the_open_is_damaged(tiny_bundle: Path) -> None:
    bundle = Bundle(tiny_bundle)
    file = tiny_bundle / "adapters/two.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(Refused, match="adapter two: its file changed since export"):
        bundle.run(tokens(), "two")
    bundle.close()


def header(document: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: str = "F32", shape: Any = (4, 1), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


TWICE = b'{"down":{"dtype":"F32","shape":[4,1],"data_offsets":[0,16]},"down":{"dtype":"F32","shape":[4,1],"data_offsets":[0,16]}}'  # noqa: E501
BROKEN = {
    "empty": b"",
    "cut in its length": b"\x01\x02\x03",
    "longer than the file": header({}, length=1000),
    "longer than 16 MiB": header(b" " * (17 << 20)),
    "of 2^64 bytes": header({}, length=2**64 - 1),
    "no JSON": header(b"{nope"),
    "no object": header([]),
    "nested": header(b'{"a":' * 80 + b"1" + b"}" * 80),
    "an entry that is none": header({"down": 3}),
    "a key twice": header(TWICE, b"\0" * 16),
    "without a dtype": header({"down": {"shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
    "without a shape": header({"down": {"dtype": "F32", "data_offsets": [0, 4]}}, b"\0" * 4),
    "a negative size": header({"down": entry(shape=[-4, -1])}, b"\0" * 16),
    "a size that overflows": header({"down": entry(shape=[2**62, 2**62])}, b"\0" * 16),
    "offsets that turn back": header({"down": entry(offsets=[16, 0])}, b"\0" * 16),
    "offsets outside": header({"down": entry(offsets=[16, 32])}, b"\0" * 16),
    "offsets for another shape": header({"down": entry(offsets=[0, 12])}, b"\0" * 12),
    "offsets that are halves": header({"down": entry(offsets=[0.5, 16])}, b"\0" * 16),
    "three offsets": header({"down": entry(offsets=[0, 8, 16])}, b"\0" * 16),
    "an overlap": header({"down": entry(), "up": entry(shape=[1, 4])}, b"\0" * 16),
    "a gap": header({"down": entry(), "up": entry(shape=[1, 4], offsets=[20, 36])}, b"\0" * 36),
    "bytes behind": header({"down": entry(), "up": entry(offsets=[16, 32])}, b"\0" * 40),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_safetensors_that_are_none_are_damaged(tiny_bundle: Path, kind: str) -> None:
    assert run_adapter(tiny_bundle, BROKEN[kind], verify=NEVER).code == "damaged"


def _tensors(**tensors: Any) -> bytes:
    whole = {"down": np.zeros((WIDTH, 2), np.float32), "up": np.zeros((2, WIDTH), np.float32)}
    found = {name: value for name, value in (whole | tensors).items() if value is not None}
    return save(found)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_tensors(side=np.zeros(1, np.float32)), "the graph has no input 'side'"),
        (
            _tensors(up=np.zeros((2, 5), np.float32)),
            "up: found float32[2, 5], expected float32[rank, 4]",
        ),
        (_tensors(up=np.zeros((2, WIDTH), np.float16)), "up: found float16[2, 4]"),
        (_tensors(up=np.zeros(8, np.float32)), "up: found float32[8]"),
        (_tensors(up=np.zeros((3, WIDTH), np.float32)), "up: found float32[3, 4]"),
        (
            header({"down": entry(dtype="F8_E4M3", offsets=[0, 4])}, b"\0" * 4),
            "the dtype 'F8_E4M3'",
        ),
    ],
)
def test_adapters_with_other_tensors_are_refused(
    tiny_bundle: Path, content: bytes, said: str
) -> None:
    found = run_adapter(tiny_bundle, content, verify=NEVER)
    assert found.code == "damaged" and said in found.line


def test_an_adapter_may_leave_sites_alone(tiny_bundle: Path) -> None:
    save_file({}, tiny_bundle / "adapters/two.safetensors")
    bundle = Bundle(tiny_bundle, verify=NEVER)
    np.testing.assert_array_equal(
        bundle.run(tokens(), "two")["hidden"], bundle.run(tokens(), None)["hidden"]
    )
    bundle.close()
