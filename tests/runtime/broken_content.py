"""Ways to break adapters, inputs and golden files, with the code of every runner's refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save, save_file

from tests.runtime.broken_bundles import NEVER, TWO, Case, Change, Manifest, entry
from tests.runtime.cpp.bundles import WIDTH, tokens

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
