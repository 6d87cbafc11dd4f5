"""A GGUF file: its metadata and its tensors, dequantized in rows as they are asked for.

The header is parsed here: the gguf library maps the file and keeps an object for every token, some
hundred MB with a large vocabulary. Its types, block sizes and dequantization are used.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edge_lra.errors import EdgeError
from edge_lra.tensor_files import Array, TensorInfo, unreadable

MAGIC = b"GGUF"
VERSIONS = (2, 3)
SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
STRING, ARRAY = 8, 9
MAX_DIMENSIONS = 4
ALIGNMENT = 32  # of the data, where the file does not say


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies, in rows of its last axis."""

    offset: int
    row_bytes: int
    kind: Any  # gguf.GGMLQuantizationType


def is_gguf(path: Path) -> bool:
    """Say whether a file begins as GGUF does."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class GgufFile:
    """Metadata, and tensors by GGUF's names, read by seek and readinto.

    Attributes:
        metadata: the file's entries; of an array of strings, its length.
        tensors: what it holds, the axes in numpy's order.
    """

    def __init__(self, path: Path) -> None:
        """Read the header, no data.

        Raises:
            EdgeError: the file is missing, truncated, damaged, or of a kind that is not read.
        """
        require_gguf(path)
        self.path = path
        try:
            with path.open("rb") as file:
                head = _Head(path, file)
                self.metadata, entries = head.read()
        except OSError as error:
            raise unreadable(path, error) from None
        self.tensors: dict[str, TensorInfo] = {}
        self._stored: dict[str, Stored] = {}
        for name, shape, number, start in entries:
            if name in self.tensors:
                raise head.damaged(f"tensor {name} twice")
            kind, row_bytes = _kind(path, name, shape, number)
            self.tensors[name] = TensorInfo(name, shape, kind.name)
            self._stored[name] = Stored(start, row_bytes, kind)
            end = start + math.prod(shape[:-1]) * row_bytes
            if end > head.size:
                raise EdgeError(
                    f"{path}: {name}: found {head.size} bytes, expected {end}; the file is "
                    "truncated, fetch it again"
                )

    @property
    def readable(self) -> frozenset[str]:
        """The types of its tensors that can be read as float32: of those that occur, all."""
        return frozenset(info.dtype for info in self.tensors.values())

    def read(self, name: str, start: int, stop: int) -> Array:
        """Return rows start..stop of a tensor as float32, unchecked."""
        shape = self.tensors[name].shape
        if len(shape) < 2:
            whole: Array = self._rows(name, 0, 1).reshape(-1)
            return whole[start:stop]
        inner = math.prod(shape[1:-1])
        rows = self._rows(name, start * inner, stop * inner)
        return rows.reshape(stop - start, *shape[1:])

    def _rows(self, name: str, start: int, stop: int) -> Array:
        """Return rows of the last axis."""
        import gguf

        place = self._stored[name]
        raw = np.empty((stop - start, place.row_bytes), np.uint8)
        try:
            with self.path.open("rb") as file:
                file.seek(place.offset + start * place.row_bytes)
                count = file.readinto(raw.data)
        except OSError as error:
            raise unreadable(self.path, error) from None
        if count != raw.nbytes:
            raise EdgeError(
                f"{self.path}: {name}: found {count} bytes, expected {raw.nbytes}; "
                "the file is truncated, fetch it again"
            )
        values: Array = gguf.dequantize(raw, place.kind)
        return values.astype(np.float32, copy=False)


def require_gguf(path: Path) -> None:
    """Refuse to go on without the library.

    Raises:
        EdgeError: gives the pip command.
    """
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise EdgeError(
            f"{path}: found a GGUF file, expected gguf to read it; pip install 'edge-lra[export]'"
        ) from None


def _kind(path: Path, name: str, shape: tuple[int, ...], number: int) -> tuple[Any, int]:
    """Return a tensor's type and the bytes of a row of its last axis."""
    import gguf

    try:
        kind = gguf.GGMLQuantizationType(number)
    except ValueError:
        raise EdgeError(
            f"{path}: {name}: found tensor type {number}, expected one that gguf knows; "
            "pip install --upgrade gguf, or use another quantization of the model"
        ) from None
    block, size = gguf.GGML_QUANT_SIZES[kind]
    try:
        gguf.dequantize(np.zeros((1, size), np.uint8), kind)
    except NotImplementedError:
        raise EdgeError(
            f"{path}: {name}: found tensor type {kind.name}, expected one that gguf can read, such "
            "as F16, Q8_0 or Q4_K; use another quantization of the model"
        ) from None
    if shape[-1] % block:
        raise EdgeError(
            f"{path}: {name}: found rows of {shape[-1]} values, expected a multiple of {block} in "
            f"{kind.name}; the file is damaged, fetch it again"
        )
    return kind, shape[-1] // block * size


class _Head:
    """Reads a GGUF file from its beginning to the end of its table of tensors."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.size = path.stat().st_size

    def read(self) -> tuple[dict[str, Any], list[tuple[str, tuple[int, ...], int, int]]]:
        """Return the metadata, and (name, shape, type, offset in the file) of the tensors."""
        if self.take(len(MAGIC)) != MAGIC:
            raise EdgeError(f"{self.path}: found no GGUF file, expected one; check the path")
        version = int(self.scalar("<I"))
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "big"), "little") in VERSIONS
            found = "a big-endian file" if swapped else f"GGUF version {version}"
            raise EdgeError(
                f"{self.path}: found {found}, expected little-endian version 2 or 3; "
                "convert the model again"
            )
        tensors, entries = int(self.scalar("<Q")), int(self.scalar("<Q"))
        metadata: dict[str, Any] = {}
        for _ in range(entries):
            key = self.string()
            if key in metadata:
                raise self.damaged(f"{key} twice")
            metadata[key] = self.value(int(self.scalar("<I")))
        table = [self.tensor() for _ in range(tensors)]
        align = metadata.get("general.alignment", ALIGNMENT)
        if type(align) is not int or align < 1 or align & (align - 1):
            raise self.damaged(f"general.alignment {align!r}")
        begin = -(-self.file.tell() // align) * align
        return metadata, [(name, shape, kind, begin + at) for name, shape, kind, at in table]

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Return a tensor's name, shape in numpy's order, type and offset in the data."""
        name = self.string()
        count = int(self.scalar("<I"))
        if not 1 <= count <= MAX_DIMENSIONS:
            raise self.damaged(f"{name} of {count} dimensions")
        shape = tuple(int(self.scalar("<Q")) for _ in range(count))[::-1]
        if not all(0 < n <= self.size * 64 for n in shape):  # the densest types have 5 in a byte
            raise self.damaged(f"{name} of shape {shape}")
        return name, shape, int(self.scalar("<I")), int(self.scalar("<Q"))

    def value(self, kind: int) -> Any:
        """Return an entry: a number, a string, or a list; of an array of strings, its length."""
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            return self.scalar(self.format(kind))
        inner, count = int(self.scalar("<I")), int(self.scalar("<Q"))
        if inner == STRING:
            for _ in range(count):
                self.take(int(self.scalar("<Q")))
            return count
        form = np.dtype(self.format(inner))
        return np.frombuffer(self.take(count * form.itemsize), form).tolist()

    def format(self, kind: int) -> str:
        if kind not in SCALARS:
            raise self.damaged(f"a value of type {kind}")
        return SCALARS[kind]

    def scalar(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def string(self) -> str:
        text = self.take(int(self.scalar("<Q")))
        try:
            return text.decode()
        except UnicodeDecodeError:
            raise self.damaged("text that is no UTF-8") from None

    def take(self, count: int) -> bytes:
        """Return the next bytes; a count that the file cannot hold is not tried."""
        data = self.file.read(count) if count <= self.size else b""
        if len(data) != count:
            raise EdgeError(
                f"{self.path}: found {self.size} bytes, expected more of its header; the file is "
                "truncated or no GGUF file, fetch it again"
            )
        return data

    def damaged(self, found: str) -> EdgeError:
        return EdgeError(f"{self.path}: found {found}, expected a GGUF file; fetch it again")
