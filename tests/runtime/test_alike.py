"""Runners agree: each broken bundle, adapter, input and golden file gets one answer from all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import load_file, save, save_file

from edge_lra.bundle import SEAL, UNSEALED, seal, sha256_file
from tests.runtime import alike
from tests.runtime.android.probe import Probe
from tests.runtime.cpp.bundles import WIDTH, tokens, write_tiny
from tests.runtime.js.hosts import Node

Manifest = dict[str, Any]
Change = Callable[[Path, Manifest], object]
TWO = "adapters/two.safetensors"
ZERO_DIGEST = "0" * 64
ADDRESS = "*/_ORT_MEM_ADDR_/*"  # onnxruntime's name for its own memory


@dataclass(frozen=True)
class Case:
    """A change of the whole bundle, and the code of every runner's refusal; None for none.

    Attributes:
        code: the refusal's.
        change: of the folder, and of its manifest, which is then sealed.
        relist: whether sizes and hashes of the files are recorded again before.
        question: what is asked after.
    """

    code: str | None
    change: Change = lambda folder, manifest: None
    relist: bool = True
    question: dict[str, Any] | None = None


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny factored bundle whose output is called logits, with one golden case."""

    def rename(model: onnx.ModelProto) -> None:
        model.graph.node[-1].output[0] = model.graph.output[0].name = "logits"

    folder = write_tiny(tmp_path_factory.mktemp("alike") / "whole.edge", rename)
    manifest = load_manifest_of(folder)
    manifest["outputs"][0]["name"] = "logits"
    manifest["golden"] = {"count": 1, "adapters": ["one"], "kernel_spread": 0.0}
    seal_again(folder, manifest)
    found = alike.ask_cpp(alike.Question(folder, tokens()))
    assert isinstance(found, dict)
    logits = np.array(found["logits"], np.float32)
    given = {f"input.0.{name}": value for name, value in tokens().items()}
    save_file(
        given | {"output.0.logits": logits, "float.0.logits": logits.copy()},
        folder / "golden.safetensors",
    )
    seal_again(folder, manifest)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep stamps of checks out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def asks(node: Node, probe: Probe) -> dict[str, alike.Answers]:
    """Return the runners whose errors have codes."""
    return {"cpp": alike.ask_cpp, "node": alike.ask_node(node), "java": alike.ask_java(probe)}


def load_manifest_of(folder: Path) -> Manifest:
    found: Manifest = json.loads((folder / "manifest.json").read_text())
    return found


def seal_again(folder: Path, manifest: Manifest, relist: bool = True) -> None:
    """Seal a manifest, its files listed as they are."""
    if relist:
        files = [p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"]
        for path in files:
            entry = {"size": path.stat().st_size, "sha256": sha256_file(path)}
            manifest["files"][path.relative_to(folder).as_posix()] = entry
    (folder / "manifest.json").write_bytes(seal(manifest))


# ---- manifests ------------------------------------------------------------------------------


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 0


def raw_manifest(change: Callable[[bytes], bytes]) -> Change:
    """Change the sealed bytes, and leave the seal."""

    def write(folder: Path, manifest: Manifest) -> None:
        manifest["raw"] = change  # applied after the seal

    return write


def listed(name: str) -> Change:
    entry = {"size": 1, "sha256": ZERO_DIGEST}
    return lambda _, manifest: manifest["files"].update({name: entry})


def entry(**fields: Any) -> Change:
    return lambda _, manifest: manifest.update(fields)


NEVER = {"verify": "never"}
OUTSIDE = ["../x", "/etc/passwd", "a/../../x", "a\\b", "C:x", "a:b", "", ".", "./x", "a//b", "a/"]
MANIFESTS: dict[str, Case] = {
    "whole": Case(None),
    "a newer format": Case("unsupported", entry(format_version=2)),
    "a format that is true": Case("unsupported", entry(format_version=True)),
    "a broken seal": Case("damaged", raw_manifest(lambda data: data.replace(b"tiny", b"tino"))),
    "bytes behind the seal": Case("damaged", raw_manifest(lambda data: data + b" ")),
    "no JSON": Case("damaged", raw_manifest(lambda data: data[:-3])),
    "64 levels": Case(None, entry(versions=nested(63))),
    "65 levels": Case("damaged", entry(versions=nested(64))),
    "no manifest": Case("not_found", lambda folder, m: m.update(raw=lambda data: None)),
    "a newer onnxruntime": Case("unsupported", entry(min_onnxruntime="99.0.0")),
    "another input": Case("damaged", lambda _, m: m["inputs"][0].update(name="ids")),
    "another output": Case("damaged", lambda _, m: m["outputs"][0].update(name="more")),
    "an unknown default adapter": Case("invalid_argument", entry(default_adapter="three")),
    "files that are a list": Case("damaged", entry(files=[])),
    "no inputs": Case("damaged", entry(inputs=None)),
    "an input of no known type": Case("unsupported", lambda _, m: m["inputs"][0].update(dtype="x")),
    "an option that is a list": Case("damaged", entry(session_options={"a": [1]})),
    "an option that is null": Case("damaged", entry(session_options={"a": None})),
    "a golden adapter that is a number": Case(
        "damaged", entry(golden={"count": 1, "adapters": [3], "kernel_spread": 0.0})
    ),
    "an adapter without a base": Case("damaged", lambda _, m: m["adapters"]["two"].pop("base")),
    "no graph": Case("damaged", lambda _, m: m["files"].pop("model.onnx"), relist=False),
    **{f"the name {name!r}": Case("damaged", listed(name), question=NEVER) for name in OUTSIDE},
    **{
        f"an adapter in {name!r}": Case(
            "damaged", lambda _, m, name=name: m["adapters"]["two"].update(file=name)
        )
        for name in ("../x", "/x", "")
    },
    "a tokenizer outside": Case(
        "damaged", entry(tokenizer={"file": "../x", "pad_id": 0, "token_types": False})
    ),
}

TWICE = b'"format_version": 1,'
MANIFESTS["a key twice"] = Case(
    "damaged", lambda _, m: m.update(whole=lambda data: data.replace(TWICE, TWICE * 2))
)
MANIFESTS["a control character"] = Case(
    "damaged", lambda _, m: m.update(whole=lambda data: data.replace(b'"tiny"', b'"ti\x01ny"'))
)


# ---- files ----------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def link_out(name: str) -> Change:
    def link(folder: Path, _: Manifest) -> None:
        outside = folder.parent / "outside"
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)

    return link


FILES: dict[str, Case] = {}
for _name in ("model.onnx", "model.onnx.data", TWO):
    FILES |= {
        f"{_name} flipped": Case("damaged", lambda f, _, n=_name: flip(f / n), relist=False),
        f"{_name} cut": Case(
            "damaged", lambda f, _, n=_name: (f / n).write_bytes(b"x"), relist=False
        ),
        f"{_name} missing": Case("not_found", lambda f, _, n=_name: (f / n).unlink(), relist=False),
        f"{_name} linked": Case("damaged", link_out(_name), relist=False),
        f"{_name} linked, unverified": Case(
            "damaged", link_out(_name), relist=False, question=NEVER | {"adapter": "two"}
        ),
    }


# ---- graphs ---------------------------------------------------------------------------------


def outside(location: str | None) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name="outside", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add().key = "location"
    if location is not None:
        tensor.external_data[0].value = location
    return tensor


def in_initializer(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    model.graph.initializer.append(tensor)


def in_sparse(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    model.graph.sparse_initializer.add().indices.CopyFrom(tensor)


def in_subgraph(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "g", [], [])
    model.graph.node.append(helper.make_node("If", ["b"], ["d"], then_branch=inner))


def in_function(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    opsets = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("own", "f", [], ["c"], [node], opsets))


def in_function_default(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    """Put it into what an attribute of a function is where a call leaves it out."""
    in_function(model, onnx.TensorProto(data_type=TensorProto.FLOAT, dims=[0]))
    model.functions[0].attribute_proto.append(helper.make_attribute("value", tensor))


def last_wins(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    """Write the value twice: protobuf keeps the last, which is a good one."""
    good = onnx.StringStringEntryProto(value="model.onnx.data").SerializeToString()
    bad = tensor.external_data[0].SerializeToString()
    tensor.external_data[0].ParseFromString(bad)
    raw = tensor.SerializeToString()
    # The entry again, longer by the good value: field 13, its new length.
    raw = raw.replace(bytes([0x6A, len(bad)]) + bad, bytes([0x6A, len(bad + good)]) + bad + good)
    field = bytes([0x2A]) + _varint(len(raw)) + raw  # graph.initializer
    model.graph.metadata_props.clear()
    model.graph.doc_string = "raw:" + field.hex()


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + _varint(value >> 7)


def graph(put: Callable[[onnx.ModelProto, onnx.TensorProto], None], location: str | None) -> Change:
    def change(folder: Path, _: Manifest) -> None:
        file = folder / "model.onnx"
        model = onnx.load(file, load_external_data=False)
        put(model, outside(location))
        raw = model.graph.doc_string.partition("raw:")[2]
        model.graph.doc_string = ""
        more = bytes.fromhex(raw)
        # Two graphs are merged by protobuf, so what is raw follows as one of its own.
        tail = bytes([0x3A]) + _varint(len(more)) + more if more else b""
        file.write_bytes(model.SerializeToString() + tail)

    return change


def listed_address(folder: Path, manifest: Manifest) -> None:
    graph(in_initializer, ADDRESS)(folder, manifest)
    (folder / ADDRESS).parent.mkdir(parents=True)
    (folder / ADDRESS).write_bytes(b"0000")


PUTS = (in_initializer, in_sparse, in_subgraph, in_function, in_function_default, last_wins)
GRAPHS: dict[str, Case] = {
    **{f"{put.__name__} elsewhere": Case("damaged", graph(put, "../secret")) for put in PUTS},
    "in no file": Case("damaged", graph(in_initializer, "")),
    "in a location without a value": Case("damaged", graph(in_initializer, None)),
    "in a file that is not listed": Case("damaged", graph(in_initializer, "manifest.json")),
    "by another spelling": Case("damaged", graph(in_initializer, "./model.onnx.data")),
    "in memory": Case("damaged", graph(in_initializer, ADDRESS)),
    "in memory, listed": Case("damaged", listed_address),
    "no protobuf": Case(
        "damaged", lambda f, _: (f / "model.onnx").write_bytes(b"\x3a\xff\xff\xff\xff\x0f location")
    ),
}


# ---- adapters -------------------------------------------------------------------------------


def two(content: bytes) -> Change:
    return lambda folder, _: (folder / TWO).write_bytes(content)


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def place(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def saved(**tensors: np.ndarray | None) -> bytes:
    whole = {"down": np.zeros((WIDTH, 2), np.float32), "up": np.zeros((2, WIDTH), np.float32)}
    return save({name: value for name, value in (whole | tensors).items() if value is not None})


DOWN, UP = place([WIDTH, 1], 0, 16), place([1, WIDTH], 16, 32)
PAIR = {"down": DOWN, "up": UP}
DOUBLE = json.dumps(PAIR)[:-1].encode() + b', "up": ' + json.dumps(UP).encode() + b"}"
ADAPTERS: dict[str, Case] = {
    "whole": Case(None),
    "of another base": Case(
        "foreign_adapter", lambda _, m: m["adapters"]["two"].update(base="f" * 64)
    ),
    "written by hand": Case(None, two(raw(PAIR, bytes(32)))),
    "with metadata": Case(None, two(raw(PAIR | {"__metadata__": {"a": "b"}}, bytes(32)))),
    "without tensors": Case(None, two(raw({}))),
    "without one": Case(None, two(saved(up=None, down=None))),
    "empty": Case("damaged", two(b"")),
    "a header longer than the file": Case("damaged", two(raw(PAIR, bytes(32), 1000))),
    "a header of 16 MiB": Case("damaged", two(raw(b" " * ((16 << 20) + 1)))),
    "a header of 2^64": Case("damaged", two(raw(PAIR, bytes(32), 2**64 - 1))),
    "a header that is a list": Case("damaged", two(raw([]))),
    "a header with a byte order mark": Case(
        "damaged", two(raw(b"\xef\xbb\xbf" + json.dumps(PAIR).encode(), bytes(32)))
    ),
    "a name twice": Case("damaged", two(raw(DOUBLE, bytes(32)))),
    "an overlap": Case("damaged", two(raw(PAIR | {"up": place([1, 4], 8, 24)}, bytes(32)))),
    "one place for both": Case("damaged", two(raw(PAIR | {"up": place([1, 4], 0, 16)}, bytes(16)))),
    "a gap": Case("damaged", two(raw(PAIR | {"up": place([1, 4], 20, 36)}, bytes(36)))),
    "bytes behind": Case("damaged", two(raw(PAIR, bytes(36)))),
    "bytes that lack": Case("damaged", two(raw(PAIR, bytes(28)))),
    "nothing inside another": Case(
        "damaged",
        two(raw({"down": place([4, 0], 8, 8), "up": place([0, 4], 4, 4)}, bytes(0))),
    ),
    "a size that overflows": Case(
        "damaged", two(raw(PAIR | {"up": place([2**62, 2**62], 16, 32)}, bytes(32)))
    ),
    "a size that is negative": Case(
        "damaged", two(raw(PAIR | {"up": place([-1, -4], 16, 32)}, bytes(32)))
    ),
    "nesting": Case("damaged", two(raw(b'{"__metadata__":' + b"[" * 64 + b"]" * 64 + b"}"))),
    "a tensor too many": Case("damaged", two(saved(side=np.zeros(1, np.float32)))),
    "another type": Case("damaged", two(saved(up=np.zeros((2, WIDTH), np.float16)))),
    "an unknown type": Case(
        "damaged", two(raw(PAIR | {"up": place([1, 4], 16, 20, "F8_E4M3")}, bytes(20)))
    ),
    "another width": Case("damaged", two(saved(up=np.zeros((2, 5), np.float32)))),
    "two ranks": Case("damaged", two(saved(up=np.zeros((3, WIDTH), np.float32)))),
    "a missing head": Case(
        "damaged",
        lambda f, m: (m["adapter_inputs"][1].update(role="weight"), two(saved(up=None))(f, m)),
    ),
}


# ---- inputs ---------------------------------------------------------------------------------


def asked(code: str | None, adapter: str | None = "one", **inputs: Any) -> Case:
    given = {name: value for name, value in (tokens() | inputs).items() if value is not None}
    return Case(code, question={"inputs": given, "adapter": adapter})


IDS = tokens()["input_ids"]
INPUTS: dict[str, Case] = {
    "whole": asked(None),
    "no adapter": asked(None, None),
    "an unknown adapter": asked("invalid_argument", "three"),
    "no adapter, where it brings the head": replace(
        asked("invalid_argument", None), change=entry(head="adapter")
    ),
    "int32": asked(None, input_ids=IDS.astype(np.int32)),
    "bool": asked(None, attention_mask=np.ones_like(IDS, bool)),
    "floats": asked("invalid_argument", input_ids=IDS.astype(np.float32)),
    "an unknown name": asked("invalid_argument", more=IDS),
    "a missing name": asked("invalid_argument", attention_mask=None),
    "one axis": asked("invalid_argument", input_ids=IDS[0]),
    "no tokens": asked("invalid_argument", input_ids=IDS[:, :0], attention_mask=IDS[:, :0]),
    "no rows": asked("invalid_argument", input_ids=IDS[:0], attention_mask=IDS[:0]),
    "two lengths": asked("invalid_argument", attention_mask=IDS[:, :2]),
    "a negative id": asked("invalid_argument", input_ids=IDS - 1),
    "an id too large": asked("invalid_argument", input_ids=IDS + 48),
    "an id far too large": asked("invalid_argument", input_ids=IDS + 2**31),
    "too many tokens": asked("invalid_argument", **tokens(1, 9)),
    "as many as it takes": asked(None, **tokens(3, 8)),
}


# ---- golden files ---------------------------------------------------------------------------


def golden(change: Callable[[dict[str, np.ndarray]], object]) -> Change:
    def write(folder: Path, _: Manifest) -> None:
        tensors = load_file(folder / "golden.safetensors")
        change(tensors)
        save_file(tensors, folder / "golden.safetensors")

    return write


OUTPUT, FLOAT = "output.0.logits", "float.0.logits"
NAN = np.full((1, 3, WIDTH), np.nan, np.float32)
LARGE = np.zeros((1, 4000, WIDTH), np.float32)
GOLDEN: dict[str, Case] = {
    name: Case(code, golden(change), question={"golden": True})
    for name, code, change in (
        ("whole", None, lambda t: None),
        (
            "far off",
            "gate_failed",
            lambda t: t.update({OUTPUT: t[OUTPUT] + 9, FLOAT: t[FLOAT] + 9}),
        ),
        ("NaN in the float model's", "gate_failed", lambda t: t.update({FLOAT: NAN})),
        ("NaN at export", "gate_failed", lambda t: t.update({OUTPUT: NAN})),
        ("NaN in both", "gate_failed", lambda t: t.update({OUTPUT: NAN, FLOAT: NAN})),
        ("no inputs", "damaged", lambda t: [t.pop(n) for n in list(t) if n.startswith("input")]),
        ("no outputs", "damaged", lambda t: (t.pop(OUTPUT), t.pop(FLOAT))),
        ("no float model's", "damaged", lambda t: t.pop(FLOAT)),
        ("the float model's alone", "damaged", lambda t: (t.pop(OUTPUT), t.update({FLOAT: LARGE}))),
        ("two shapes", "damaged", lambda t: t.update({FLOAT: LARGE})),
        ("others than the run's", "damaged", lambda t: t.update({OUTPUT: LARGE, FLOAT: LARGE})),
        ("an output that is none", "damaged", lambda t: t.update({"output.0.x": NAN})),
        (
            "an input that is none",
            "invalid_argument",
            lambda t: t.update({"input.0.more": t["input.0.input_ids"]}),
        ),
    )
}
GOLDEN["no file"] = Case(
    "not_found",
    lambda folder, _: (folder / "golden.safetensors").unlink(),
    relist=False,
    question={"golden": True} | NEVER,
)

CASES = {
    f"{kind}: {name}": case
    for kind, cases in (
        ("manifest", MANIFESTS),
        ("file", FILES),
        ("graph", GRAPHS),
        (
            "adapter",
            {n: replace(c, question=c.question or {"adapter": "two"}) for n, c in ADAPTERS.items()},
        ),
        ("input", INPUTS),
        ("golden", GOLDEN),
    )
    for name, case in cases.items()
}


def broken(whole: Path, folder: Path, case: Case) -> Path:
    """Return a copy of the whole bundle after a change."""
    shutil.copytree(whole, folder)
    manifest = load_manifest_of(folder)
    case.change(folder, manifest)
    before, after = (manifest.pop(key, lambda data: data) for key in ("whole", "raw"))
    seal_again(folder, manifest, case.relist and isinstance(manifest["files"], dict))
    file = folder / "manifest.json"
    file.write_bytes(reseal(before(file.read_bytes())))
    data = after(file.read_bytes())
    if data is None:
        file.unlink()
    else:
        file.write_bytes(data)
    return folder


def reseal(data: bytes) -> bytes:
    """Give bytes of a manifest the seal that they need."""
    start, end = len(SEAL), len(SEAL) + len(UNSEALED)
    unsealed = data[:start] + UNSEALED + data[end:]
    return data[:start] + hashlib.sha256(unsealed).hexdigest().encode() + data[end:]


@pytest.mark.parametrize("name", CASES)
def test_all_runners_answer_alike(
    name: str, asks: dict[str, alike.Answers], whole: Path, tmp_path: Path
) -> None:
    case = CASES[name]
    question = alike.Question(
        broken(whole, tmp_path / "b.edge", case), **{"inputs": tokens(), **(case.question or {})}
    )
    answers = {runner: ask(question) for runner, ask in asks.items()}
    python = alike.ask_python(question)
    if case.code is None:
        assert isinstance(python, dict)
        assert answers == dict.fromkeys(asks, python)
    else:
        assert answers == dict.fromkeys(asks, case.code)
        assert python == alike.REFUSED
