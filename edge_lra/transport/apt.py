"""Debian packages without installing them: a private apt root that leaves the machine's alone.

It uses the machine's own mirrors, keys and proxies, needs no root, and takes packages of another
architecture. Every file is verified by apt against the mirror's signed index.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_lra.errors import EdgeError

OTHER_WAY = "or profile on a device with --target ssh://user@host"
NEEDED = ("apt-get", "apt-cache", "apt-config", "dpkg", "dpkg-deb")
COMPONENTS = frozenset({"main", "universe"})
SUITES = ("", "-updates", "-security")  # behind the release's code name
Progress = Callable[[str, int, int], None]  # stage, bytes so far, bytes in all
POLL_S = 0.2


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


@dataclass(frozen=True)
class Package:
    """A package's file; `architecture` is "all" where it fits every machine."""

    name: str
    version: str
    architecture: str
    file: Path


def require_apt() -> None:
    """Raise EdgeError unless this is a system with apt."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise EdgeError(
            f"emulator: found no {', '.join(missing)}, expected Debian 12 or newer, whose packages "
            f"it is made of; set it up there, {OTHER_WAY}"
        )


def machine_sources() -> list[Source]:
    """Return the suites of the distribution's own mirrors that this machine uses.

    Raises:
        EdgeError: there are none.
    """
    codename = _os_release().get("VERSION_CODENAME", "")
    listed = _run(["apt-get", "indextargets", "Created-By: Packages"]).stdout
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
                _signed_by(target["Sourcesentry"]),
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


def _signed_by(entry: str) -> str:
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


def unpack(package: Package, folder: Path) -> None:
    """Lay a package's files out in a folder; nothing of it runs."""
    _run(["dpkg", "--extract", package.file, folder])


def host_architecture() -> str:
    """Return Debian's name of this machine's architecture."""
    return _run(["dpkg", "--print-architecture"]).stdout.strip()


class Apt:
    """A private apt root in a folder; what it has downloaded stays for the next try."""

    def __init__(self, folder: Path, architecture: str) -> None:
        self._folder = folder
        self._archives, self._empty = folder / "cache" / "archives", folder / "cache" / "empty"
        for path in ("state/lists/partial", "etc/parts", "etc/sources"):
            (folder / path).mkdir(parents=True, exist_ok=True)
        for path in (self._archives, self._empty):
            (path / "partial").mkdir(parents=True, exist_ok=True)
        (folder / "status").write_text("")
        names = dict.fromkeys((architecture, host_architecture()))
        settings = [
            f'Dir::State "{folder}/state";',
            f'Dir::State::status "{folder}/status";',
            f'Dir::Cache "{folder}/cache";',
            'Dir::Etc::main "/dev/null";',
            f'Dir::Etc::parts "{folder}/etc/parts";',  # so that the machine's hooks do not run
            'Dir::Etc::sourcelist "/dev/null";',
            f'Dir::Etc::sourceparts "{folder}/etc/sources";',
            'Dir::Etc::preferences "/dev/null";',
            'Dir::Etc::preferencesparts "/dev/null";',
            f'APT::Architecture "{architecture}";',
            *(f'APT::Architectures:: "{name}";' for name in names),
            'APT::Install-Recommends "false";',
            'APT::Sandbox::User "root";',  # the user _apt cannot write into a user's cache folder
            'APT::Update::Error-Mode "any";',
        ]
        lines = [*_machine_settings(), *settings, 'Acquire::Languages "none";']
        (folder / "apt.conf").write_text("\n".join(lines) + "\n")

    def update(self, sources: Sequence[Source], progress: Progress | None = None) -> None:
        """Fetch the signed indexes of these sources.

        Raises:
            EdgeError: one cannot be fetched or verified.
        """
        text = "\n".join(source.stanza() for source in sources)
        (self._folder / "etc" / "sources" / "machine.sources").write_text(text)
        self._apt_get(["update"], {}, progress, "package index")

    def candidate(self, name: str) -> str | None:
        """Return the newest version of a package, with its epoch; None where there is none."""
        rows = self._call(["apt-cache", "madison", name]).stdout.splitlines()
        return rows[0].split("|")[1].strip() if rows else None

    def fetch(self, names: Sequence[str], progress: Progress | None = None) -> list[Package]:
        """Download packages with all that they depend on.

        Raises:
            EdgeError: one is unknown, or cannot be fetched or verified.
        """
        # apt's plan leaves out what is there already: it is asked about an empty folder.
        plan = ["install", "--yes", "--print-uris", "-o", f"Dir::Cache::archives={self._empty}"]
        files = self._planned([*plan, *names])
        command = ["install", "--yes", "--download-only", *names]
        self._apt_get(command, files, progress, "Debian packages")
        return [self._package(file) for file in sorted(files)]

    def fetch_alone(self, name: str, progress: Progress | None = None) -> Package:
        """Download one package without what it depends on.

        Raises:
            EdgeError: it is unknown, or cannot be fetched or verified.
        """
        files = self._planned(["download", "--print-uris", name])
        self._apt_get(["download", name], files, progress, name.partition(":")[0])
        return self._package(next(iter(files)))

    def _planned(self, arguments: Sequence[str]) -> dict[str, int]:
        """Return the files that a command would fetch, and their bytes."""
        plan = self._call(["apt-get", *arguments]).stdout
        return {m[1]: int(m[2]) for m in re.finditer(r"^'[^']+' (\S+) (\d+) ", plan, re.MULTILINE)}

    def _package(self, file: str) -> Package:
        path = self._archives / file
        form = "--showformat=${Package} ${Version} ${Architecture}"
        return Package(*_run(["dpkg-deb", "--show", form, path]).stdout.split(), path)

    def _call(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return _run(command, self._folder / "apt.conf", self._archives)

    def _apt_get(
        self,
        arguments: Sequence[str],
        files: Mapping[str, int],
        progress: Progress | None,
        stage: str,
    ) -> None:
        """Run apt-get while telling how much of these files has arrived."""
        tell = progress or _silent
        places = [self._archives / folder / file for file in files for folder in ("", "partial")]
        total, done = max(1, sum(files.values())), threading.Event()

        def watch() -> None:
            while not done.wait(POLL_S):
                tell(stage, min(total, sum(map(_size, places))), total)

        tell(stage, 0, total)
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            self._call(["apt-get", "--quiet=2", *arguments])
        finally:
            done.set()
            thread.join()
        tell(stage, total, total)


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # not yet, or no more: apt renames what has arrived
        return 0


def _machine_settings() -> list[str]:
    """Return how this machine reaches its mirrors: proxies, certificates, what it lets pass."""
    dump = _run(["apt-config", "dump", "Acquire"]).stdout.splitlines()
    skipped = ("Acquire::IndexTargets", "Acquire::Languages", "Acquire::GzipIndexes", 'Acquire "')
    return [line for line in dump if not line.startswith(skipped)]


def _run(
    command: Sequence[str | Path], config: Path | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    if config is not None:
        environment["APT_CONFIG"] = str(config)
    done = subprocess.run(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise EdgeError(f"emulator: {command[0]} failed: {explain(done.stderr or done.stdout)}")
    return done


def explain(output: str) -> str:
    """Return one line on what a program complained of, with a remedy where one is known."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith(("E: ", "ERROR: ", "error: "))]
    reason = (marked or lines or ["it said nothing"])[0]
    reason = re.sub(r"^(E|ERROR|error): ", "", reason)
    text = output.lower()
    if "no space left" in text or "enough free space" in text:
        return f"{reason}; the disk is full: free 500 MB, or set XDG_CACHE_HOME to another disk"
    unreachable = (
        "temporary failure", "could not resolve", "could not connect", "failed to establish",
        "network is unreachable", "connection", "timed out", "unable to connect", "name or service",
    )  # fmt: skip
    if any(sign in text for sign in unreachable):
        return f"{reason}; the set-up needs a network once, check it and the proxy"
    return f"{reason}; {OTHER_WAY}"
