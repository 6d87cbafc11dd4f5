"""What is damaged, foreign, hostile or wrong is refused with a code and one line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from edge_lra import Generator
from edge_lra.bundle import seal
from tests.runner.tiny_decoder import change_manifest, write_manifest
from tests.runtime.js.hosts import Host, Node, Refused

IDS = [[101, 2023, 102]]
GOOD = {"input_ids": IDS, "attention_mask": [[1, 1, 1]]}


def refused(host: Host, folder: Path, *calls: Any, **options: Any) -> Refused:
    """Return what loading or the last call threw: an EdgeError of one line."""
    with pytest.raises(Refused) as caught:
        host.call(folder, *calls, **options)
    found = caught.value
    assert found.name == "EdgeError" and found.code is not None, found.text
    assert "\n" not in found.message and len(found.message) < 600
    return found


@pytest.fixture
def copy(factored: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy.edge"
    shutil.copytree(factored, folder)
    return folder


@pytest.fixture
def tiny(tiny_decoder_factored: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "tiny.edge"
    shutil.copytree(tiny_decoder_factored, folder)
    return folder


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def reseal(folder: Path, **fields: Any) -> None:
    """Replace entries of the manifest and keep its files as they are listed."""
    (folder / "manifest.json").write_bytes(seal(manifest_of(folder) | fields))


# ---- the manifest ---------------------------------------------------------------------------


def test_a_folder_without_a_manifest_is_no_bundle(host: Host, tmp_path: Path) -> None:
    assert refused(host, tmp_path).code == "not_found"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found a corrupt file, expected JSON"),
        (b"{", "found a corrupt file, expected JSON"),
        (b"\xff\xfe", "found a corrupt file, expected JSON"),
        (b"[]", "found another kind of file"),
        (b"null", "found another kind of file"),
        (b'{"format_version": 1, "files": {}}', "found another kind of file"),
        (b'{"format_version": 1, "files": [], "base_fingerprint": ""}', "another kind of file"),
        (b"[" * 200_000, "found a corrupt file, expected JSON"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "found a corrupt file, expected JSON"),
    ],
)
def test_a_manifest_that_is_none_is_damaged(
    content: bytes, message: str, tiny: Path, host: Host
) -> None:
    (tiny / "manifest.json").write_bytes(content)
    found = refused(host, tiny)
    assert found.code == "damaged" and message in found.message


def test_a_manifest_of_more_than_16_mib_is_not_read(tiny: Path, host: Host) -> None:
    (tiny / "manifest.json").write_bytes(b" " * (16 * 2**20 + 1))
    assert refused(host, tiny).code == "damaged"


def test_a_changed_byte_breaks_the_seal(tiny: Path, host: Host) -> None:
    text = (tiny / "manifest.json").read_text()
    (tiny / "manifest.json").write_text(text.replace('"tiny"', '"tinx"'))
    found = refused(host, tiny)
    assert found.code == "damaged" and "other bytes than were exported" in found.message


@pytest.mark.parametrize("version", [2, 0, "1", None])
def test_another_format_is_refused(version: Any, tiny: Path, host: Host) -> None:
    reseal(tiny, format_version=version)
    found = refused(host, tiny)
    assert found.code == "unsupported"
    assert f"found bundle format {json.dumps(version)}, expected 1" in found.message


@pytest.mark.parametrize(
    "fields",
    [
        {"inputs": None},
        {"outputs": [{"name": 1}]},
        {"files": {"model.onnx": {"size": -1, "sha256": ""}}},
        {"files": {"model.onnx": {"size": 1e300, "sha256": ""}}},
        {"decoder": {"cache": 3}},
        {"adapters": []},
        {"session_options": {"a": {}}},
        {"golden": {"adapters": 3}},
        {"base_fingerprint": 3},
    ],
)
def test_an_ill_formed_entry_is_named(fields: dict[str, Any], tiny: Path, node: Node) -> None:
    reseal(tiny, **fields)
    found = refused(node, tiny)
    assert found.code == "damaged" and f'ill-formed "{next(iter(fields))}"' in found.message


def test_a_type_that_these_packages_lack_is_unsupported(tiny: Path, node: Node) -> None:
    reseal(tiny, inputs=[{"name": "input_ids", "dtype": "complex64", "shape": ["batch"]}])
    found = refused(node, tiny)
    assert found.code == "unsupported" and 'found dtype "complex64"' in found.message


NAMES = ["/etc/passwd", "../x", "a/../../x", "..\\x", "C:x", "C:\\x", "", "a//b", "./x", "a\0b"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["files", "adapter", "tokenizer"])
def test_names_that_lead_out_of_the_folder_are_refused(
    name: str, place: str, tiny: Path, node: Node
) -> None:
    manifest = manifest_of(tiny)
    if place == "files":
        manifest["files"][name] = {"size": 1, "sha256": "0" * 64}
    elif place == "adapter":
        manifest["adapters"]["one"]["file"] = name
    else:
        manifest["tokenizer"]["file"] = name
    reseal(tiny, **manifest)
    found = refused(node, tiny)
    assert found.code == "damaged" and "expected files inside the bundle" in found.message


# ---- files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_a_damaged_model_is_refused(name: str, tiny: Path, host: Host) -> None:
    content = bytearray((tiny / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tiny / name).write_bytes(content)
    found = refused(host, tiny)
    assert found.code == "damaged" and f"{name}: is damaged" in found.message


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x"])
@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_a_model_of_another_size_is_refused(
    name: str, change: Callable[[bytes], bytes], tiny: Path, host: Host
) -> None:
    (tiny / name).write_bytes(change((tiny / name).read_bytes()))
    assert refused(host, tiny).code == "damaged"


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_a_missing_model_is_refused(name: str, tiny: Path, host: Host) -> None:
    (tiny / name).unlink()
    assert refused(host, tiny).code == "not_found"


def test_a_damaged_tokenizer_is_refused_when_it_is_read(tiny: Path, web: Host) -> None:
    content = (tiny / "tokenizer.json").read_bytes()
    (tiny / "tokenizer.json").write_bytes(content.replace(b"<s>", b"<x>"))
    found = refused(web, tiny, ("generate", "a", {"maxTokens": 1}))
    assert found.code == "damaged" and "tokenizer.json: is damaged" in found.message


def test_the_hash_is_that_of_the_bytes_in_use_however_the_files_change(
    tiny: Path, node: Node
) -> None:
    """A check that is remembered says nothing of a file that is parsed later."""
    node.call(tiny, ("adapters",))
    file = tiny / "adapters/one.safetensors"
    stat = file.stat()
    tensors = load_file(file)
    save_file({name: value + 1 for name, value in tensors.items()}, file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    found = refused(node, tiny, ("generate", [5], {"maxTokens": 1, "adapter": "one"}))
    assert found.code == "damaged" and "adapters/one.safetensors: is damaged" in found.message


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def fresh_node(built: None, home: Path) -> Iterator[Node]:
    node = Node(home)
    yield node
    node.close()


@pytest.mark.parametrize("verify", ["once", "always"])
def test_a_check_is_remembered_only_where_asked(
    verify: str, tiny: Path, home: Path, fresh_node: Node
) -> None:
    fresh_node.call(tiny, ("adapters",), load={"verify": verify})
    assert len(list((home / "edge-lra/checked").iterdir())) == 1
    data = tiny / "model.onnx.data"
    stat = data.stat()
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    with data.open("r+b") as handle:  # the same inode
        handle.write(content)
    os.utime(data, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    if verify == "always":
        assert refused(fresh_node, tiny, load={"verify": verify}).code == "damaged"
    else:
        fresh_node.call(tiny, ("adapters",), load={"verify": verify})


def test_python_and_node_share_what_was_checked(
    tiny: Path, home: Path, fresh_node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    Generator.load(tiny, threads=1).close()
    stamps = list((home / "edge-lra/checked").iterdir())
    fresh_node.call(tiny, ("adapters",))
    assert list((home / "edge-lra/checked").iterdir()) == stamps != []


def test_an_unknown_way_to_verify_is_refused(tiny: Path, node: Node) -> None:
    found = refused(node, tiny, load={"verify": "sometimes"})
    assert (found.code, found.message) == (
        "invalid_argument",
        'verify: found "sometimes", expected one of once, always, never',
    )


def test_a_link_out_of_the_folder_is_refused(tiny: Path, node: Node, tmp_path: Path) -> None:
    (tiny / "model.onnx").rename(tmp_path / "elsewhere")
    (tiny / "model.onnx").symlink_to(tmp_path / "elsewhere")
    found = refused(node, tiny)
    assert found.code == "damaged" and "a link out of the bundle" in found.message


# ---- the graph ------------------------------------------------------------------------------


@pytest.mark.parametrize("location", ["../model.onnx.data", "/etc/passwd", "other.data", ""])
def test_weights_outside_the_listed_files_are_refused(
    location: str, tiny: Path, host: Host
) -> None:
    model = onnx.load(tiny / "model.onnx", load_external_data=False)
    external = [t for t in model.graph.initializer if t.external_data]
    entry = next(e for e in external[0].external_data if e.key == "location")
    entry.value = location
    (tiny / "model.onnx").write_bytes(model.SerializeToString())
    write_manifest(tiny, manifest_of(tiny))
    found = refused(host, tiny)
    assert found.code == "damaged"
    assert (
        f"found weights in {json.dumps(location)}, expected files of the manifest" in found.message
    )


def test_a_model_that_is_no_protobuf_is_refused(tiny: Path, host: Host) -> None:
    (tiny / "model.onnx").write_bytes(b"\x3a\xff\xff\xff\xff\x0f not a model")
    write_manifest(tiny, manifest_of(tiny))
    found = refused(host, tiny)
    assert found.code == "damaged" and "expected an ONNX model" in found.message


def test_what_onnxruntime_refuses_is_one_line(tiny: Path, host: Host) -> None:
    model = onnx.load(tiny / "model.onnx", load_external_data=False)
    model.graph.node[0].op_type = "NoSuchOperator"
    (tiny / "model.onnx").write_bytes(model.SerializeToString())
    write_manifest(tiny, manifest_of(tiny))
    found = refused(host, tiny)
    assert found.code == "runtime" and "onnxruntime cannot open it" in found.message


def test_a_graph_with_other_inputs_than_the_manifest_is_refused(tiny: Path, node: Node) -> None:
    inputs = manifest_of(tiny)["adapter_inputs"]
    change_manifest(tiny, adapter_inputs=inputs[1:])
    found = refused(node, tiny)
    assert found.code == "damaged"
    assert f"graph and manifest disagree on inputs: {inputs[0]['name']}" in found.message


def test_a_graph_without_an_output_of_the_manifest_is_refused(tiny: Path, node: Node) -> None:
    outputs = manifest_of(tiny)["outputs"]
    change_manifest(tiny, outputs=[*outputs, outputs[0] | {"name": "more"}])
    assert "graph and manifest disagree on outputs: more" in refused(node, tiny).message


def test_an_older_onnxruntime_is_refused(tiny: Path, host: Host) -> None:
    change_manifest(tiny, min_onnxruntime="99.1.0")
    found = refused(host, tiny)
    assert found.code == "unsupported" and "expected 99.1.0 or newer" in found.message


@pytest.mark.parametrize("threads", [0, -1, 1025, 1.5, "2"])
def test_threads_are_1_to_1024(threads: Any, tiny: Path, node: Node) -> None:
    found = refused(node, tiny, load={"threads": threads})
    assert found.code == "invalid_argument" and "expected 1 to 1024" in found.message


def test_a_page_without_shared_memory_has_one_thread(tiny: Path, web: Host) -> None:
    found = refused(web, tiny, load={"threads": 2})
    assert found.code == "unsupported" and "COOP and COEP" in found.message


# ---- adapters -------------------------------------------------------------------------------


def test_an_unknown_adapter_is_refused_with_the_known_ones(copy: Path, host: Host) -> None:
    line = 'adapter: found "x", expected one of: sentiment, mirrored'
    for call in (("use", "x"), ("classify", ["a"], {"adapter": "x"}), ("setAdapter", "x")):
        found = refused(host, copy, call)
        assert (found.code, found.message) == ("invalid_argument", line)


def test_a_merged_bundle_has_no_adapters(merged: Path, node: Node) -> None:
    line = 'adapter: found "x", expected one of: none (the bundle is merged)'
    assert refused(node, merged, ("use", "x")).message == line


def test_a_base_without_a_head_needs_an_adapter(copy: Path, host: Host) -> None:
    found = refused(host, copy, ("run", GOOD, {"adapter": None}))
    assert found.code == "invalid_argument"
    assert found.message.endswith("sentiment, mirrored; the base has no trained head")


def test_an_adapter_for_another_base_is_foreign(copy: Path, host: Host) -> None:
    adapters = manifest_of(copy)["adapters"]
    adapters["sentiment"]["base"] = "0" * 64
    change_manifest(copy, adapters=adapters)
    found = refused(host, copy, ("run", GOOD))
    assert (
        found.code == "foreign_adapter" and "is foreign: found base 000000000000" in found.message
    )


def change_adapter(folder: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    file = folder / "adapters/sentiment.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    write_manifest(folder, manifest_of(folder))


BIAS, DOWN = "classifier.bias", "encoder.layer.0.attention.self.lora_down"
UP = "encoder.layer.0.attention.self.query.lora_up"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(extra=t[BIAS]), 'the graph has no input "extra"'),
        (lambda t: t.update({DOWN: t[DOWN].T.copy()}), f"{DOWN}: found float32[16,384]"),
        (lambda t: t.update({DOWN: t[DOWN].astype("f2")}), f"{DOWN}: found float16[384,16]"),
        (lambda t: t.update({UP: t[UP][:3].copy()}), f"{UP}: found float32[3,384]"),
        (lambda t: t.pop(BIAS), f"found no {BIAS}, expected shape [labels]"),
        (lambda t: t.update({BIAS: t[BIAS][None]}), f"{BIAS}: found float32[1,2]"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    change: Callable[[dict[str, np.ndarray]], Any], message: str, copy: Path, node: Node
) -> None:
    change_adapter(copy, change)
    found = refused(node, copy, ("run", GOOD))
    assert found.code == "damaged" and f"adapter sentiment: {message}" in found.message


def test_what_an_adapter_leaves_out_is_off_only_where_that_is_possible(
    tiny: Path, node: Node
) -> None:
    inputs = manifest_of(tiny)["adapter_inputs"]
    (tiny / "adapters/one.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    write_manifest(tiny, manifest_of(tiny))
    calls = [("generate", [5], {"maxTokens": 4, "adapter": name}) for name in ("one", None)]
    one, none = node.call(tiny, *calls)
    assert one["tokens"] == none["tokens"]
    assert all("rank" in str(entry["shape"]) for entry in inputs)


def test_a_missing_adapter_file_is_refused_when_it_is_used(copy: Path, web: Host) -> None:
    (copy / "adapters/sentiment.safetensors").unlink()
    assert refused(web, copy, ("run", GOOD)).code == "not_found"


# ---- runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (GOOD | {"extra": IDS}, 'inputs: found "extra", expected input_ids, attention_mask, '),
        ({"input_ids": IDS}, 'inputs: found no "attention_mask", expected input_ids'),
        (GOOD | {"input_ids": [101]}, "input_ids: found 1 axes [1], expected [batch,sequence]"),
        (GOOD | {"input_ids": [[1, 2], [3]]}, "input_ids: found rows of different lengths"),
        (GOOD | {"attention_mask": [[1, 1]]}, "attention_mask: found shape [1,2], expected seq"),
        ({k: [[]] for k in GOOD}, "input_ids: found shape [1,0], expected sequence=at least 1"),
        (GOOD | {"input_ids": [[101, -1, 102]]}, "input_ids: found -1, expected ids of 0 to 30521"),
        (GOOD | {"input_ids": [[101, 30522, 2]]}, "input_ids: found 30522, expected ids of 0 to"),
        (GOOD | {"input_ids": [[101, 1.5, 102]]}, "input_ids: found 1.5, expected int64"),
        (GOOD | {"input_ids": "text"}, "input_ids: found string, expected a tensor or nested"),
        (GOOD | {"input_ids": None}, "input_ids: found object, expected a tensor or nested"),
        (
            GOOD | {"input_ids": {"dims": [1, 3], "data": [1, 2]}},
            "input_ids: found 2 elements of [1,3], expected as many as its sizes",
        ),
        (
            {name: [[1] * 513] for name in GOOD},
            "inputs: found 513 tokens, expected at most 512; truncate them",
        ),
    ],
)
def test_bad_inputs_are_refused(
    inputs: dict[str, Any], message: str, merged: Path, node: Node
) -> None:
    found = refused(node, merged, ("run", inputs))
    assert found.code == "invalid_argument" and found.message.startswith(message), found.message


@pytest.mark.parametrize(
    ("call", "code", "message"),
    [
        (("classify", "a text"), "invalid_argument", "texts: found one string, expected an array"),
        (("classify", [1]), "invalid_argument", "texts: found number, expected strings"),
        (("classify", ["a"], {"pairs": []}), "invalid_argument", "pairs: found 0, expected one"),
        (("tokenize", []), "invalid_argument", "texts: found none, expected at least one"),
        (("embed", ["a"]), "unsupported", "embed: the bundle's task is sequence-classification"),
        (("profile", {"runs": 0}), "invalid_argument", "runs: found 0, expected at least 1"),
        (("profile", {"shape": [0, 8]}), "invalid_argument", "shape: found 0, expected at least 1"),
        (("profile", {"context": 8}), "invalid_argument", "context: found 8 for "),
    ],
)
def test_calls_that_make_no_sense_are_refused(
    call: tuple[Any, ...], code: str, message: str, merged: Path, node: Node
) -> None:
    found = refused(node, merged, call)
    assert found.code == code and found.message.startswith(message), found.message


def test_a_closed_runner_refuses_every_call(factored: Path, host: Host) -> None:
    calls = [
        ("run", GOOD),
        ("classify", ["a"]),
        ("tokenize", ["a"]),
        ("profile",),
        ("checkGolden",),
    ]
    answers = host.answers(factored, ("close",), ("close",), *calls)
    assert [answer.get("error", {}).get("code") for answer in answers] == [
        None,
        None,
        *["closed"] * len(calls),
    ]


def test_overlapping_runs_and_a_close_between_them_give_answers_or_closed(
    factored: Path, host: Host
) -> None:
    found = host.ask({"verb": "overlap", "bundle": host.place(factored), "text": ["fine", "bore"]})
    results = found[0]["value"]
    assert results["alone"] == results["together"]
    assert results["afterClose"] == ["answered"] * 2 + ["closed"]
