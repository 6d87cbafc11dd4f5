"""The mirrors of its own distribution that this machine takes packages from, and their keys."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from edge_lra.errors import EdgeError
from edge_lra.transport.apt import OTHER_WAY, run

COMPONENTS = frozenset({"main", "universe"})
SUITES = ("", "-updates", "-security")  # behind the release's code name


@dataclass(frozen=True)
class Source:
    """One suite of a mirror; `signed_by` as its sources file has it, a path or a key itself."""

    uri: str
    suite: str
    component: str
    signed_by: str
    architectures: tuple[str, ...]

    def stanza(self) -> str:
        """Return it in the form of a .sources file."""
        signed = f"Signed-By:{self.signed_by}\n" if self.signed_by else ""
        return (
            f"Types: deb\nURIs: {self.uri}\nSuites: {self.suite}\nComponents: {self.component}\n"
            f"Architectures: {' '.join(self.architectures)}\n{signed}"
        )


def machine_sources() -> list[Source]:
    """Return the suites of the distribution's own mirrors that this machine uses.

    Raises:
        EdgeError: there are none.
    """
    codename = _os_release().get("VERSION_CODENAME", "")
    listed = run(["apt-get", "indextargets", "Created-By: Packages"]).stdout
    found = []
    for text in listed.split("\n\n"):
        target = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        suites = [codename + suffix for suffix in SUITES]
        known = {target.get("Release"), target.get("Codename")} & set(suites)
        if codename and known and target.get("Component") in COMPONENTS:
            source = Source(
                target["Repo-URI"],
                target["Release"],
                target["Component"],
                signed_by(target["Sourcesentry"]),
                (),
            )
            found += [source] if source not in found else []
    if not found:
        raise EdgeError(
            f"emulator: found no mirror of {codename or 'this distribution'} in apt's sources, "
            f"expected Debian's own; add it to /etc/apt/sources.list.d, {OTHER_WAY}"
        )
    return found


def backports(sources: Iterable[Source]) -> list[Source]:
    """Return the backports suite beside the release itself, on the same mirror and keys."""
    codename = _os_release().get("VERSION_CODENAME", "")
    mains = [s for s in sources if s.component == "main" and not s.suite.endswith(SUITES[1:])]
    return [replace(source, suite=f"{codename}-backports") for source in mains[:1]]


def _os_release() -> dict[str, str]:
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in lines)}


def signed_by(entry: str) -> str:
    """Return the keys of a sources entry, "FILE:NUMBER": of a stanza, or of a line."""
    name, _, number = entry.rpartition(":")
    text = Path(name).read_text(encoding="utf-8")
    if not name.endswith(".sources"):
        match = re.search(r"signed-by=([^\s\]]+)", text.splitlines()[int(number) - 1])
        return f" {match[1].replace(',', ' ')}" if match else ""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    stanza = re.split(r"\n\s*\n", "\n".join(lines).strip())[int(number) - 1]
    match = re.search(r"^Signed-By:(.*(?:\n[ \t].*)*)", stanza, re.MULTILINE | re.IGNORECASE)
    return match[1] if match else ""
