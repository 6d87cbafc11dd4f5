"""A graph's data lies in the bundle's own files: checked without the onnx package.

onnxruntime reads the bytes of a tensor from any file that the graph names as its `location`, so a
graph that was tampered with could pull foreign files, or memory, into a run. Every location must
be a file that the manifest lists, whose content is hashed.
"""

from __future__ import annotations

import mmap
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError

GRAPH = "model.onnx"
DATA = f"{GRAPH}.data"  # its weights
ORT_GRAPH = "model.ort"  # onnxruntime's own format: all data inside
DEPTH = 64  # messages in each other: 20 graphs deep; protobuf's own limit is 100
KEY = b"location"
MEMORY = "*/_ORT_MEM_ADDR_/*"  # an address for onnxruntime, even where there is such a file

# Where tensors can be, by message: number of a field -> the message in it (onnx.proto).
MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
Part = tuple[int, int, int]  # a field's number, and where its content begins and ends


class MalformedGraph(ValueError):
    """The bytes are no protobuf, or nest too deep."""


def model_path(folder: Path, manifest: Mapping[str, Any], name: str = GRAPH) -> Path:
    """Return the graph that a session opens: model.onnx, or model.ort where it takes its place.

    Args:
        folder: the bundle's.
        manifest: its manifest.
        name: of another ONNX graph of the bundle.

    Raises:
        EdgeError: the manifest lists no such file, or the graph reads data of other files.
    """
    files = manifest["files"]
    if name == GRAPH and GRAPH not in files and ORT_GRAPH in files:
        return folder / ORT_GRAPH
    if name not in files:
        raise EdgeError(f"{folder}: found no {name} in the manifest's files, expected one")
    path = folder / name
    try:
        read = sorted(set(locations(path)))
        odd = next((name for name in read if name not in files or name == MEMORY), None)
    except MalformedGraph as error:
        raise EdgeError(f"{path}: found {error}, expected an ONNX graph; export again") from None
    except OSError as error:
        raise EdgeError(f"{path}: cannot be read: {error.strerror}; export again") from None
    if odd is not None:
        raise EdgeError(
            f"{path}: found external data in {odd!r}, expected a file of the bundle; export again"
        )
    return path


def locations(path: Path) -> Iterator[str]:
    """Yield the locations that the external data of an ONNX file's tensors names.

    Only messages around the word "location" are read, so weights inside the graph cost one search.
    A graph of 90 kB with 167 such tensors takes 1 ms.

    Raises:
        MalformedGraph: what is around such a word is no protobuf, or nests too deep.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if not file.seek(0, 2):
            raise MalformedGraph("an empty file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            places = [match.start() for match in re.finditer(KEY, data)]
            yield from _walk(data, [*places, len(data)])


def _walk(data: mmap.mmap, places: list[int]) -> Iterator[str]:
    """Yield the locations below a model; `places` is where the word stands, and the end."""
    pending = [("model", 0, len(data), 0)]
    entries: set[bytes] = set()
    while pending:
        kind, start, end, depth = pending.pop()
        if depth > DEPTH:
            raise MalformedGraph(f"more than {DEPTH} messages in each other")
        known = MESSAGES[kind]
        for number, begin, stop in _fields(data, start, end):
            if number in known and places[bisect_left(places, begin)] + len(KEY) <= stop:
                if known[number] == "entry":
                    entries.add(data[begin:stop])  # of a bundle nearly always the same
                else:
                    pending.append((known[number], begin, stop, depth + 1))
    for entry in sorted(entries):
        yield from _values(entry)


def _values(entry: bytes) -> Iterator[str]:
    """Yield the value of a key and value if the key is "location".

    Of a repeated key or value protobuf takes the last; here any counts.
    """
    texts: dict[int, list[bytes]] = {1: [], 2: []}
    for number, begin, stop in _fields(entry, 0, len(entry)):
        texts.setdefault(number, []).append(entry[begin:stop])
    if KEY in texts[1]:
        for value in texts[2] or [b""]:
            yield value.decode(errors="backslashreplace")


def _fields(data: mmap.mmap | bytes, place: int, end: int) -> list[Part]:
    """Return the length-delimited fields of the message between two places; numbers are skipped."""
    found = []
    while place < end:
        key, place = _varint(data, place, end)
        kind = key & 7
        if kind == 2:
            size, begin = _varint(data, place, end)
            place = begin + size
            found.append((key >> 3, begin, place))
        elif kind == 0:
            _, place = _varint(data, place, end)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        else:  # groups, which ONNX has none of
            raise MalformedGraph(f"a field of wire type {kind} at byte {place}")
    if place != end:
        raise MalformedGraph("a message that is cut")
    return found


def _varint(data: mmap.mmap | bytes, place: int, end: int) -> tuple[int, int]:
    """Return a number and where it ends."""
    if place < end and (value := data[place]) < 128:  # nearly all are of one byte
        return value, place + 1
    value = 0
    for shift in range(0, 70, 7):
        if place >= end:
            break
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise MalformedGraph(f"a number that does not end at byte {place}")
