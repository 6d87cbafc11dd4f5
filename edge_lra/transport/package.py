"""A wheel of the lean runner: what `edge_lra.agent` needs and nothing else.

It is built from the modules of this installation in milliseconds, is a pip-installable file, and
works on PYTHONPATH as it is, since Python imports from zip files.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import edge_lra

ROOT = "edge_lra"
AGENT = f"{ROOT}.agent"
# What the modules may import besides Python's own; versions are the base dependencies'.
REQUIREMENTS = {"numpy": "1.26", "onnxruntime": "1.20", "safetensors": "0.4.5"}
PYTHON = (3, 11)
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can tell: equal sources, equal bytes
MODE = 0o644 << 16


@dataclass(frozen=True)
class Wheel:
    """A built wheel.

    Attributes:
        name: its file name; the version carries the hash of its contents.
        sha256: of the file.
    """

    name: str
    data: bytes
    sha256: str


def build_wheel() -> Wheel:
    """Return the wheel of `edge_lra.agent` and all that it imports of this package."""
    files = {path: data for path, data in sorted(agent_files().items())}
    digest = hashlib.sha256()
    for path, data in files.items():
        digest.update(f"{path} {len(data)}\n".encode() + data)
    version = f"{edge_lra.__version__}+{digest.hexdigest()[:12]}"
    info = f"{ROOT}-{version}.dist-info"
    files |= {f"{info}/METADATA": _metadata(version), f"{info}/WHEEL": _tags()}
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = MODE
            archive.writestr(entry, data)
    wheel = buffer.getvalue()
    return Wheel(f"{ROOT}-{version}-py3-none-any.whl", wheel, hashlib.sha256(wheel).hexdigest())


def agent_files() -> dict[str, bytes]:
    """Return the sources of the agent and of what it imports, by their path in the wheel.

    Imports inside functions count; those for type checkers alone do not. `edge_lra` itself loads
    its heavy parts on first use, by name, and these stay out.
    """
    folder = Path(edge_lra.__file__).parent
    wanted = [AGENT, *(f"{AGENT}.{file.stem}" for file in (folder / "agent").glob("*.py"))]
    files: dict[str, bytes] = {}
    while wanted:
        module = wanted.pop()
        # A zip knows no packages without __init__.py before Python 3.13.
        file, is_package = _find(folder, module)
        name = module.replace(".", "/") + ("/__init__.py" if is_package else ".py")
        if name in files:
            continue
        files[name] = file.read_bytes() if file.exists() else b""
        parent = module.rpartition(".")[0]
        wanted += [parent] if parent else []
        wanted += _imports(folder, module if is_package else parent, files[name])
    return files


def _find(folder: Path, module: str) -> tuple[Path, bool]:
    """Return a module's file, and whether it is a package."""
    place = folder.joinpath(*module.split(".")[1:])
    return (place / "__init__.py", True) if place.is_dir() else (place.with_suffix(".py"), False)


def _imports(folder: Path, package: str, source: bytes) -> Iterator[str]:
    """Yield the modules of this package that a source imports."""
    for node in _walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] == ROOT and (name == ROOT or _is_module(folder, name)):
                yield name


def _is_module(folder: Path, name: str) -> bool:
    file, is_package = _find(folder, name)
    return is_package or file.is_file()


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those below `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield from (other, *_walk(other))
            continue
        yield node
        yield from _walk(node)


def _metadata(version: str) -> bytes:
    requires = "".join(f"Requires-Dist: {n}>={v}\n" for n, v in REQUIREMENTS.items())
    python = ".".join(map(str, PYTHON))
    return (
        f"Metadata-Version: 2.1\nName: edge-lra\nVersion: {version}\n"
        f"Summary: The runner of edge-lra's bundles\nRequires-Python: >={python}\n{requires}"
    ).encode()


def _tags() -> bytes:
    return b"Wheel-Version: 1.0\nGenerator: edge-lra\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def _record(files: dict[str, bytes], own: str) -> bytes:
    """Return the list of files with their hashes, by the wheel's specification (PEP 427)."""
    rows = []
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(data)}\n")
    return "".join([*rows, f"{own},,\n"]).encode()
