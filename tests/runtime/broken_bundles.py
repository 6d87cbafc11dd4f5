"""Ways to break a bundle's manifest, files and graph, with the code of every runner's refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

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
