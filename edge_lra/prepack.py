"""A bundle's twin for one processor: optimized once, its weights in the order the kernels read.

A session on that processor then optimizes nothing, and its copies of the weights are pages of a
mapped file, which processes share and the system can drop, instead of memory of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_lra.bundle import MANIFEST, check_files, describe_files, load_manifest, seal, staged
from edge_lra.device import HOST, Device
from edge_lra.errors import EdgeError
from edge_lra.golden import check_golden
from edge_lra.products.run import NAME as PRODUCTS
from edge_lra.profile.study import is_here
from edge_lra.runner.external import DATA, GRAPH
from edge_lra.runner.memory import unshared, weights_bytes
from edge_lra.transport import Local, Progress, Qemu, Transport, open_target, require_arch

REPLACED = (GRAPH, DATA)


@dataclass(frozen=True)
class Prepacked:
    """A bundle that was packed.

    Attributes:
        folder: the twin.
        entry: what its manifest says of the packing.
        before_bytes: of the graph and its weights.
        after_bytes: the same with the packed copies.
    """

    folder: Path
    entry: Mapping[str, Any]
    before_bytes: int
    after_bytes: int


def prepack(
    bundle: str | Path,
    out: str | Path | None = None,
    device: Device | None = None,
    target: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Prepacked:
    """Write a bundle's twin for a processor, and hold it to the golden cases.

    Args:
        bundle: the bundle; it stays as it is.
        out: where to write; None for NAME-prepacked.edge beside it.
        device: whose processor; None for the target's, or this machine's. One that is not at hand
            packs on its emulated core.
        target: ssh://[user@]host[:port]: the device packs there.
        force: replace what is at `out` though it is no bundle.
        progress: told what is being sent to a target, the bytes so far and in all.

    Raises:
        EdgeError: the bundle is damaged or is packed already, there is no way to the device, or
            onnxruntime refuses.
        GateError: the twin answers otherwise.
    """
    source = Path(bundle)
    manifest = load_manifest(source)
    check_files(source, manifest)
    _check_packable(source, manifest)
    place = Path(out) if out is not None else source.with_name(f"{source.stem}-prepacked.edge")
    way = _way_to(device, target, progress)
    try:
        if target is not None and device is not None:
            require_arch(way.probe(), device.arch, way.target, device.title)
        with staged(place, force) as folder:
            answer = _pack(way, source, folder)
            entry = _entry(answer, device.name if device else target or HOST)
            twin = _write_rest(source, manifest, folder, entry)
            check_golden(folder, twin)
    finally:
        way.clean_up()
    return Prepacked(place, entry, weights_bytes(manifest), weights_bytes(twin))


def _check_packable(bundle: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse what is packed already, or in onnxruntime's own format."""
    if manifest.get("prepacked"):
        raise EdgeError(
            f"{bundle}: found it packed for {manifest['prepacked']['processor']}, expected the "
            "bundle it was made of; name that"
        )
    if GRAPH not in manifest["files"]:
        raise EdgeError(
            f"{bundle}: found no {GRAPH} in it, expected one: onnxruntime's own format has no "
            "place for packed weights; name the bundle it was made of"
        )


def _way_to(device: Device | None, target: str | None, progress: Progress | None) -> Transport:
    """Return the way to where the weights are packed.

    Raises:
        EdgeError: the device is not at hand, and its core is not emulated.
    """
    if target is not None:
        return open_target(target, progress=progress)
    if device is None or is_here(device):
        return Local()
    if device.qemu_cpu is None:
        raise EdgeError(
            f"{device.title}: found it neither here nor emulated, expected a way to its "
            "processor; give a --target"
        )
    return Qemu(device.qemu_cpu)


def _pack(way: Transport, bundle: Path, folder: Path) -> dict[str, Any]:
    """Let the device write the graph and its data into a folder here."""
    place = way.push(bundle)
    at_hand = place == str(bundle.resolve())  # an emulated program too sees this machine's files
    out = str(folder) if at_hand else f"{place}.prepacked"
    answer = way.run({"what": "prepack", "bundles": [place], "out": out})
    for name in () if at_hand else REPLACED:
        way.pull(f"{out}/{name}", folder / name)
    return answer


def _entry(answer: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Return what the manifest says of the packing."""
    host = answer["host"]
    return {
        "device": device,
        "processor": host["cpu"],
        "arch": host["arch"],
        "onnxruntime": answer["onnxruntime"],
        "optimized": answer["optimized"],
    }


def _write_rest(
    bundle: Path, manifest: Mapping[str, Any], folder: Path, entry: Mapping[str, Any]
) -> dict[str, Any]:
    """Copy the files that stay, write the manifest, and return it.

    The graph of the integer products reads the data file as it was, so the twin has none. It needs
    the release that packed it: an older one would find operators that it may not have.
    """
    for name in manifest["files"].keys() - {*REPLACED, PRODUCTS}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / name, folder / name)
    twin = {
        **manifest,
        "prepacked": dict(entry),
        "min_onnxruntime": entry["onnxruntime"],
        "products": None,
        "decoder": unshared(manifest),
        "files": describe_files(folder),
    }
    (folder / MANIFEST).write_bytes(seal(twin))
    return load_manifest(folder)
