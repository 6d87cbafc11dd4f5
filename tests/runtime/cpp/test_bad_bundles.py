"""Bundles that are damaged, foreign, newer or hostile: a code and a line, and no crash."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save, save_file

from edge_lra import Runner
from edge_lra.bundle import seal
from edge_lra.errors import EdgeError
from tests.runner.tiny_decoder import change_manifest as reseal_with
from tests.runtime.cpp.abi import ALWAYS, NEVER, ONCE, Bundle, Refused
from tests.runtime.cpp.bundles import WIDTH, change_manifest, tokens, write_tiny
from tests.runtime.cpp.places import library_of

Change = Callable[[dict[str, Any]], None]


def refusal(folder: Path, **options: Any) -> Refused:
    """Return how an open is refused."""
    with pytest.raises(Refused) as raised:
        Bundle(folder, **options)
    assert "\n" not in raised.value.line
    return raised.value


def python_says(folder: Path) -> str:
    with pytest.raises(EdgeError) as raised:
        Runner.load(folder)
    return str(raised.value)


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
    assert found.code == "damaged" and found.line == python_says(tiny_bundle)


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


def _initializer(location: str) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name="x", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


def _in_initializer(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    model.graph.initializer.append(tensor)


def _in_sparse(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(tensor)


def _in_attribute(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def _in_subgraph(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    graph = helper.make_graph([node], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["b"], ["d"], then_branch=graph))


def _in_function(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    model.functions.append(
        helper.make_function("own", "f", [], ["c"], [node], [helper.make_opsetid("", 20)])
    )


def _split(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    """Write the key twice: protobuf keeps the last."""
    entry = tensor.external_data[0]
    good = onnx.StringStringEntryProto(key="offset", value="model.onnx.data")
    merged = good.SerializeToString() + entry.SerializeToString()
    tensor.external_data[0].ParseFromString(merged)
    model.graph.initializer.append(tensor)


@pytest.mark.parametrize(
    "put", [_in_initializer, _in_sparse, _in_attribute, _in_subgraph, _in_function, _split]
)
@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "unlisted"])
def test_weights_in_files_that_are_not_listed_are_refused(
    tmp_path: Path, put: Callable[[onnx.ModelProto, onnx.TensorProto], None], location: str
) -> None:
    def change(model: onnx.ModelProto) -> None:
        put(model, _initializer(location))

    found = refusal(write_tiny(tmp_path / "b.edge", change), verify=NEVER)
    assert found.code == "damaged" and f"found weights in '{location}'" in found.line


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"\xff" * 40, b"\x3a\xff\xff\xff\xff\x0f", b"\x0b"]
)
def test_a_graph_that_is_none_is_refused(tiny_bundle: Path, content: bytes) -> None:
    (tiny_bundle / "model.onnx").write_bytes(content)
    assert refusal(tiny_bundle, verify=NEVER).code in ("damaged", "runtime")


def test_a_graph_with_other_inputs_is_refused(tiny_bundle: Path) -> None:
    change_manifest(tiny_bundle, lambda manifest: manifest["adapter_inputs"].pop())
    found = refusal(tiny_bundle)
    assert found.code == "damaged" and found.line == python_says(tiny_bundle)
    assert found.line.endswith("disagree on inputs: up")


def test_a_graph_without_an_output_is_refused(tiny_bundle: Path) -> None:
    change_manifest(
        tiny_bundle,
        lambda manifest: manifest["outputs"].append(manifest["outputs"][0] | {"name": "x"}),
    )
    assert refusal(tiny_bundle).line.endswith("disagree on outputs: x")


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


def test_an_onnxruntime_that_is_too_old_is_unsupported(tiny_bundle: Path) -> None:
    change_manifest(tiny_bundle, lambda manifest: manifest.update(min_onnxruntime="99.0.1"))
    found = refusal(tiny_bundle)
    assert found.code == "unsupported"
    assert "expected 99.0.1 or newer" in found.line


@pytest.mark.parametrize("name", ["/no/libonnxruntime.so", "model.onnx", "libc.so.6"])
def test_a_library_that_is_no_onnxruntime_is_not_found(tiny_whole: Path, name: str) -> None:
    path = str(tiny_whole / name) if name == "model.onnx" else name
    found = refusal(tiny_whole, ort_library=path.encode())
    assert found.code == "not_found"
    assert f"found no library that loads as '{path}'" in found.line


@pytest.mark.parametrize("release", ["1.20.0", "1.24.1"])
def test_several_releases_of_onnxruntime_live_in_one_process(
    tiny_whole: Path, release: str
) -> None:
    older = Bundle(tiny_whole, ort_library=str(library_of(release)).encode())
    newer = Bundle(tiny_whole)
    assert older.describe()["onnxruntime"] == release != newer.describe()["onnxruntime"]
    np.testing.assert_allclose(
        older.run(tokens())["hidden"], newer.run(tokens())["hidden"], rtol=1e-6
    )
    older.close()
    newer.close()


@pytest.mark.parametrize("threads", [-1, 1025])
def test_numbers_of_threads_are_checked(tiny_whole: Path, threads: int) -> None:
    found = refusal(tiny_whole, threads=threads)
    assert found.code == "invalid_argument" and f"threads: found {threads}" in found.line


def test_an_unknown_verify_is_refused(tiny_whole: Path) -> None:
    assert "verify: found 3" in refusal(tiny_whole, verify=3).line


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
    assert found.code in ("damaged", "unsupported") and said in found.line


def test_an_adapter_may_leave_sites_alone(tiny_bundle: Path) -> None:
    save_file({}, tiny_bundle / "adapters/two.safetensors")
    bundle = Bundle(tiny_bundle, verify=NEVER)
    np.testing.assert_array_equal(
        bundle.run(tokens(), "two")["hidden"], bundle.run(tokens(), None)["hidden"]
    )
    bundle.close()


def test_golden_cases_that_are_cut_are_damaged(tiny_bundle: Path) -> None:
    (tiny_bundle / "golden.safetensors").write_bytes(b"\x01")
    change_manifest(tiny_bundle, lambda manifest: manifest["golden"].update(adapters=["one"]))
    bundle = Bundle(tiny_bundle, verify=NEVER)
    with pytest.raises(Refused) as raised:
        bundle.verify()
    assert raised.value.code == "damaged"
    (tiny_bundle / "golden.safetensors").write_bytes(save({"x": np.zeros(1)}))
    with pytest.raises(Refused, match="found a case without its inputs or answers"):
        bundle.verify()
    bundle.close()


@pytest.mark.parametrize("off", [0.0, 1.0])
def test_golden_answers_that_differ_fail_the_gate(tiny_bundle: Path, off: float) -> None:
    bundle = Bundle(tiny_bundle, verify=NEVER)
    exact = bundle.run(tokens(), "one")["hidden"]
    cases = {f"input.0.{name}": value for name, value in tokens().items()}
    cases |= {"output.0.hidden": exact, "float.0.hidden": exact + np.float32(off)}
    cases["output.0.hidden"] = exact + np.float32(off)
    save_file(cases, tiny_bundle / "golden.safetensors")
    change_manifest(tiny_bundle, lambda manifest: manifest["golden"].update(adapters=["one"]))
    again = Bundle(tiny_bundle, verify=NEVER)
    if off:
        with pytest.raises(Refused, match="from the float model, expected at most") as raised:
            again.verify()
        assert raised.value.code == "gate_failed"
    else:
        assert again.verify().max_abs_error == 0
    bundle.close()
    again.close()


def test_a_seal_is_of_the_whole_file(tiny_bundle: Path) -> None:
    file = tiny_bundle / "manifest.json"
    file.write_bytes(seal(json.loads(file.read_text())) + b" ")
    assert refusal(tiny_bundle).code == "damaged"
