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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_lra.bundle import sha256_file
from edge_lra.errors import EdgeError
from edge_lra.transport.sysroot import FOLDER, Progress

OTHER_WAY = "or profile on a device with --target ssh://user@host"
NEEDED = ("apt-get", "apt-cache", "apt-config", "dpkg", "dpkg-deb")
POLL_S = 0.2


@dataclass(frozen=True)
class Package:
    """A package's file, whose sha256 is that of the signed index."""

    name: str
    version: str
    file: Path
    sha256: str


def require_apt() -> None:
    """Raise EdgeError unless this is a system with apt."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise EdgeError(
            f"emulator: found no {', '.join(missing)}, expected Debian 12 or newer, whose packages "
            f"it is made of; set it up there, {OTHER_WAY}"
        )


def unpack(package: Package, folder: Path) -> None:
    """Lay a package's files out in a folder; nothing of it runs."""
    run(["dpkg", "--extract", package.file, folder])


def host_architecture() -> str:
    """Return Debian's name of this machine's architecture."""
    return run(["dpkg", "--print-architecture"]).stdout.strip()


class Apt:
    """A private apt root in a folder; what it has downloaded stays for the next try."""

    def __init__(self, folder: Path, architecture: str) -> None:
        self._folder = folder
        self._archives, self._empty = folder / "cache" / "archives", folder / "cache" / "empty"
        places = [folder / name for name in ("state/lists/partial", "etc/parts", "etc/sources")]
        for path in (*places, self._archives / "partial", self._empty / "partial"):
            path.mkdir(parents=True, exist_ok=True)
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
            'APT::Get::AllowUnauthenticated "false";',
            'Acquire::AllowInsecureRepositories "false";',
            'Acquire::AllowWeakRepositories "false";',
            'Acquire::AllowDowngradeToInsecureRepositories "false";',
            'Acquire::Languages "none";',
        ]
        lines = [*_machine_settings(), *settings]
        (folder / "apt.conf").write_text("\n".join(lines) + "\n")

    def update(self, sources: Sequence[str], progress: Progress | None = None) -> None:
        """Fetch the signed indexes of these sources, each in the form of a .sources file.

        Raises:
            EdgeError: one cannot be fetched or verified.
        """
        (self._folder / "etc" / "sources" / "machine.sources").write_text("\n".join(sources))
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
        return [self._verified(file) for file in sorted(files)]

    def fetch_alone(self, name: str, progress: Progress | None = None) -> Package:
        """Download one package without what it depends on.

        Raises:
            EdgeError: it is unknown, or cannot be fetched or verified.
        """
        (file,) = files = self._planned(["download", "--print-uris", name])
        self._apt_get(["download", name], files, progress, name.partition(":")[0])
        return self._verified(file)

    def _planned(self, arguments: Sequence[str]) -> dict[str, int]:
        """Return the files that a command would fetch into an empty folder, and their bytes."""
        plan = self._call(["apt-get", *arguments], self._empty).stdout
        return {m[1]: int(m[2]) for m in re.finditer(r"^'[^']+' (\S+) (\d+) ", plan, re.MULTILINE)}

    def _verified(self, file: str) -> Package:
        """Return a package whose file has the index's hash.

        apt verifies what it downloads, but takes a file that is there already by its size.
        """
        path = self._archives / file
        form = "--showformat=${Package} ${Version} ${Architecture}"
        name, version, architecture = run(["dpkg-deb", "--show", form, path]).stdout.split()
        native = "" if architecture == "all" else f":{architecture}"
        shown = self._call(["apt-cache", "show", f"{name}{native}={version}"]).stdout
        found = sha256_file(path)
        if found not in re.findall(r"^SHA256: (\w+)$", shown, re.MULTILINE):
            path.unlink()
            raise EdgeError(f"{path}: is not what the signed index lists; run it again")
        return Package(name, version, path, found)

    def _call(
        self, command: Sequence[str], folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return run(command, self._folder / "apt.conf", folder or self._archives)

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
    dump = run(["apt-config", "dump", "Acquire"]).stdout.splitlines()
    skipped = ("Acquire::IndexTargets", "Acquire::Languages", "Acquire::GzipIndexes", 'Acquire "')
    return [line for line in dump if not line.startswith(skipped)]


def run(
    command: Sequence[str | Path], config: Path | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Raises:
        EdgeError: it failed; one line of what it said.
    """
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
        return (
            f"{reason}; the disk is full: free 500 MB, or name a folder on another disk in {FOLDER}"
        )
    unreachable = (
        "temporary failure", "could not resolve", "could not connect", "failed to establish",
        "network is unreachable", "connection", "timed out", "unable to connect", "name or service",
    )  # fmt: skip
    if any(sign in text for sign in unreachable):
        return f"{reason}; the set-up needs a network once, check it and the proxy"
    return f"{reason}; {OTHER_WAY}"
