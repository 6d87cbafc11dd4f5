"""Plan what an app gets, check that nothing of it is in the way, and write it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edge_lra.bundle import MANIFEST, check_files, load_manifest
from edge_lra.embed.calls import Call, call_of
from edge_lra.embed.ort import Converted, Earlier, convert_bundle, origin_of
from edge_lra.embed.page import PAGE, build_command, write_page
from edge_lra.embed.platforms import PLATFORMS, Platform, runner_files
from edge_lra.embed.record import RECORD, Record, check_free, is_unchanged, read_record
from edge_lra.embed.sizes import Size, bundle_sizes, library_sizes
from edge_lra.embed.tree import Content, digest_of, put, scratch
from edge_lra.errors import EdgeError
from edge_lra.runner.external import ORT_GRAPH

GOLDEN = "golden.safetensors"  # another adapter brings cases of its own


@dataclass(frozen=True)
class EmbedRequest:
    """What to embed.

    Attributes:
        bundle: the bundle's folder.
        platform: a key of `PLATFORMS`.
        out: the app's tree; made if it is not there.
        split: whether adapters go into a folder of their own, to be updated over the air.
        ort: whether the graph goes in onnxruntime's own format.
    """

    bundle: Path
    platform: str
    out: Path
    split: bool = False
    ort: bool = False


@dataclass(frozen=True)
class Embedded:
    """What was embedded.

    Attributes:
        request: what was asked for.
        bundle: where the bundle lies in the app's tree, or with `split` its base.
        adapters: where what an update replaces lies; None without `split`.
        base: of a split bundle, "new", "same" or "changed" since the last run; None without it.
        written: paths of all files, in order.
        deleted: paths that an earlier run wrote and that are needed no more.
        kept: of those, what was changed since and is left.
        call: the code.
        sizes: what the app grows by.
        converted: with `ort`, what became of the graph.
        config: with `ort`, where the operators for a small build of onnxruntime are.
        build: with `ort`, the command of that build.
    """

    request: EmbedRequest
    bundle: str
    adapters: str | None
    base: str | None
    written: tuple[str, ...]
    deleted: tuple[str, ...]
    kept: tuple[str, ...]
    call: Call
    sizes: tuple[Size, ...]
    converted: Converted | None
    config: str | None
    build: str | None


@dataclass(frozen=True)
class _Places:
    """Where a bundle's files go."""

    base: str
    adapters: str | None

    def of(self, name: str, manifest: Mapping[str, Any]) -> str:
        """Return the place of one file of the bundle."""
        changing = {entry["file"] for entry in manifest["adapters"].values()}
        apart = self.adapters and name in (changing | {MANIFEST, GOLDEN})
        return f"{self.adapters if apart else self.base}/{name}"


def embed(request: EmbedRequest) -> Embedded:
    """Write a runner's sources, a bundle and the code that calls it into an app's tree.

    All of it is written or nothing. Files that an earlier run wrote are replaced where they are
    as it left them.

    Raises:
        EdgeError: the bundle is damaged or not fit for it, a file of the app's is in the way, or
            the disk refuses.
        GateError: with `ort`, the converted bundle answers otherwise.
    """
    platform = PLATFORMS[request.platform]
    bundle = request.bundle.resolve()
    manifest = load_manifest(bundle)
    check_files(bundle, manifest, "always")
    if request.split and not manifest["adapters"]:
        raise EdgeError(
            f"{request.bundle}: found a {manifest['mode']} bundle, expected adapters to split off; "
            "export it with --factored, or leave out --split"
        )
    _check_name(request.bundle, bundle.name)
    places = _places(bundle.name, platform, request)
    if bundle.is_relative_to((request.out / places.base).resolve()):
        raise EdgeError(f"{request.bundle}: found it at its place in the app, expected another")
    record = read_record(request.out)
    owned = [f"{place}/" for place in (places.base, places.adapters) if place]
    owned += [_config_name(bundle.name)] if request.ort else []
    record.check_alone((request.platform, bundle.name), owned, request.out)
    runner = runner_files(platform)
    with scratch(request.out) as folder:
        converted = origin = None
        if request.ort:
            origin = origin_of(manifest)
            earlier = _earlier(request, bundle.name, places, record, origin)
            converted = convert_bundle(bundle, manifest, folder / "ort" / bundle.name, earlier)
            bundle, manifest = converted.folder, converted.manifest
        parts = _Parts(bundle, manifest, places, runner, converted, origin)
        return _write(request, parts, record, folder)


def _check_name(bundle: Path, name: str) -> None:
    """Refuse a name that code, a web address or Windows would take for something else."""
    if not re.fullmatch(r"\w[\w .,+()-]*", name):
        raise EdgeError(
            f"{bundle.parent}: found the bundle {name!r}, expected letters, digits, spaces and "
            "'_.,+()-'; rename the folder"
        )


def _earlier(
    request: EmbedRequest, name: str, places: _Places, record: Record, origin: str
) -> Earlier | None:
    """Return what an earlier run converted of the same graph, if it is still there."""
    paths = (f"{places.base}/{ORT_GRAPH}", _config_name(name))
    same = record.origins.get((request.platform, name)) == origin
    if same and all(is_unchanged(request.out, path, record) for path in paths):
        return Earlier(*(request.out / path for path in paths))
    return None


def _config_name(bundle: str) -> str:
    return f"{PurePosixPath(bundle).stem}.operators.config"


@dataclass(frozen=True)
class _Parts:
    """What is to be embedded."""

    bundle: Path
    manifest: Mapping[str, Any]
    places: _Places
    runner: Mapping[str, Content]
    converted: Converted | None
    origin: str | None  # what the graph was converted from

    def bundle_files(self) -> dict[str, Content]:
        """Return the bundle's files by where they go."""
        names = [*self.manifest["files"], MANIFEST]
        return {self.places.of(name, self.manifest): self.bundle / name for name in names}

    def change(
        self, earlier: Collection[str], digests: Mapping[str, str], record: Record
    ) -> str | None:
        """Say whether the files that an update does not bring are those of the last run."""
        if self.places.adapters is None:
            return None
        inside = f"{self.places.base}/"
        before = {path: record.files[path] for path in earlier if path.startswith(inside)}
        now = {path: digest for path, digest in digests.items() if path.startswith(inside)}
        return "new" if not before else "same" if before == now else "changed"

    def call(self, platform: str) -> Call:
        """Return the code that opens the bundle and runs it."""
        places = self.places
        return call_of(platform, self.manifest, self.bundle.name, places.base, places.adapters)

    def sizes(self) -> list[Size]:
        """Return the sizes of the bundle's parts."""
        return bundle_sizes(self.manifest, (self.bundle / MANIFEST).stat().st_size)


def _write(request: EmbedRequest, parts: _Parts, record: Record, folder: Path) -> Embedded:
    """Write the planned files, the page and the record."""
    config = _config_name(parts.bundle.name) if parts.converted else None
    files: dict[str, Content] = {**parts.runner, **parts.bundle_files()}
    if parts.converted and config:
        files[config] = parts.converted.config.encode()
    digests = {path: digest_of(content) for path, content in files.items()}
    key = (request.platform, parts.bundle.name)
    stale = record.stale(key, [*files, PAGE])
    deleted = [path for path in stale if is_unchanged(request.out, path, record)]
    found = Embedded(
        request,
        parts.places.base,
        parts.places.adapters,
        parts.change(record.embedded.get(key, frozenset()), digests, record),
        (*files, PAGE, RECORD),
        tuple(deleted),
        tuple(path for path in stale if path not in deleted and (request.out / path).exists()),
        parts.call(request.platform),
        (*parts.sizes(), *library_sizes(request.platform)),
        parts.converted,
        config,
        build_command(PLATFORMS[request.platform], config) if config else None,
    )
    files[PAGE] = write_page(found, parts.manifest).encode()
    digests[PAGE] = digest_of(files[PAGE])
    check_free(request.out, digests, record)
    # The last to be written: a run that is killed before finds its files again by their content.
    files[RECORD] = record.replaced(key, digests, parts.origin).as_json().encode()
    put(request.out, files, deleted, folder)
    return found


def _places(name: str, platform: Platform, request: EmbedRequest) -> _Places:
    base = f"{platform.bundles}/{name}"
    apart = f"{platform.bundles}/{PurePosixPath(name).stem}-adapters"
    return _Places(base, apart if request.split else None)
