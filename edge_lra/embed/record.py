"""`edge-lra-embed.json`: what was written into an app's tree, so that only that is replaced."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_lra.bundle import sha256_file
from edge_lra.errors import EdgeError
from edge_lra.inside import SHA256, stays_inside

RECORD = "edge-lra-embed.json"
NAMED = 3  # files that an error names
Key = tuple[str, str]  # platform, bundle's folder name


@dataclass(frozen=True)
class Record:
    """What earlier runs wrote.

    Attributes:
        files: sha256 of each file by its path in the tree.
        embedded: the paths of each bundle on each platform; bundles share a runner's.
        origins: of each whose graph was converted, what from.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    embedded: Mapping[Key, frozenset[str]] = field(default_factory=dict)
    origins: Mapping[Key, str] = field(default_factory=dict)

    def replaced(self, key: Key, files: Mapping[str, str], origin: str | None) -> Record:
        """Return the record after a run that wrote these files."""
        embedded = {**self.embedded, key: frozenset(files)}
        origins = {one: known for one, known in self.origins.items() if one != key}
        origins |= {key: origin} if origin else {}
        used = {name for names in embedded.values() for name in names}
        known = {**self.files, **files}
        return Record({name: known[name] for name in sorted(used)}, embedded, origins)

    def stale(self, key: Key, files: Iterable[str]) -> list[str]:
        """Return what an earlier run of the same bundle wrote and nothing needs any more."""
        others = [names for other, names in self.embedded.items() if other != key]
        needed = set(files).union(*others)
        return sorted(self.embedded.get(key, frozenset()) - needed)

    def check_alone(self, key: Key, places: Iterable[str], out: Path) -> None:
        """Refuse places that another bundle has: one named `a` splits as `a.edge` does.

        Raises:
            EdgeError: names the other bundle.
        """
        for place in places:
            for other, names in self.embedded.items():
                if other != key and any(name.startswith(place) for name in names):
                    raise EdgeError(
                        f"{out / place}: found files of the bundle {other[1]}, expected none; "
                        "rename one of the two, or choose another --out"
                    )

    def as_json(self) -> str:
        """Return the file's text."""
        entries = [
            {
                "platform": key[0],
                "bundle": key[1],
                "converted_from": self.origins.get(key),
                "files": sorted(names),
            }
            for key, names in sorted(self.embedded.items())
        ]
        document = {"schema_version": 1, "files": dict(self.files), "embedded": entries}
        return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def read_record(out: Path) -> Record:
    """Return a tree's record; an empty one where nothing was written yet.

    Raises:
        EdgeError: the file is damaged, or of a version this one does not know.
    """
    file = out / RECORD
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        if document["schema_version"] != 1:
            found = document["schema_version"]
            raise EdgeError(f"{file}: found version {found!r}, expected 1; update edge-lra")
        return _record(document)
    except (FileNotFoundError, NotADirectoryError):
        return Record()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise EdgeError(
            f"{file}: found it damaged, expected what edge-lra embed wrote; restore it, or delete "
            "it together with what was embedded"
        ) from None


def _record(document: Any) -> Record:
    files = {str(name): str(digest) for name, digest in document["files"].items()}
    embedded = {
        (str(entry["platform"]), str(entry["bundle"])): frozenset(map(str, entry["files"]))
        for entry in document["embedded"]
    }
    origins = {
        (str(entry["platform"]), str(entry["bundle"])): str(entry["converted_from"])
        for entry in document["embedded"]
        if entry["converted_from"]
    }
    listed = {name for names in embedded.values() for name in names}
    # Its paths are written over and deleted, so none may lead out of the tree.
    wild = [name for name in files.keys() | listed if not stays_inside(name)]
    if wild or not listed <= files.keys() or not all(map(SHA256.fullmatch, files.values())):
        raise ValueError(document)
    return Record(files, embedded, origins)


def check_free(out: Path, files: Mapping[str, str], record: Record) -> None:
    """Refuse to write over what is not an earlier run's, as that run left it.

    Args:
        out: the app's tree.
        files: sha256 of what is to be written, by path.
        record: what earlier runs wrote.

    Raises:
        EdgeError: names the files.
    """
    taken = [name for name in files if not _is_free(out, name, files[name], record)]
    if taken:
        rest = f" and {len(taken) - NAMED} more" if len(taken) > NAMED else ""
        raise EdgeError(
            f"{out}: found {', '.join(taken[:NAMED])}{rest}, changed or not written by edge-lra "
            "embed; move them, or choose another --out"
        )


def _is_free(out: Path, name: str, digest: str, record: Record) -> bool:
    path = out / name
    if _is_linked(out, name):
        return False
    if any(one.exists() and not one.is_dir() for one in _folders(out, name)):
        return False
    if not path.exists():
        return True
    return path.is_file() and sha256_file(path) in (digest, record.files.get(name))


def _folders(out: Path, name: str) -> list[Path]:
    return [*(out / name).parents][: name.count("/")]


def _is_linked(out: Path, name: str) -> bool:
    """Say whether a path in the tree goes through a link: what is behind it is not ours."""
    return any(path.is_symlink() for path in (out / name, *_folders(out, name)))


def is_unchanged(out: Path, name: str, record: Record) -> bool:
    """Say whether a file is as an earlier run left it."""
    path = out / name
    known = record.files.get(name)
    return not _is_linked(out, name) and path.is_file() and sha256_file(path) == known
