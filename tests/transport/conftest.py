"""A real sshd on loopback, whose user's home is a scratch folder, and a small bundle."""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

import edge_lra
from edge_lra.pipeline import ExportRequest, export

ROOT = Path(edge_lra.__file__).parent.parent
SERVER = ROOT / ".cache" / "sshd"
RUN_FOLDER = Path("/run/sshd")  # compiled in: where a root's sshd locks up its network half


# A request for each thing a profile asks; the places of bundles are added.
REQUESTS: list[dict[str, Any]] = [
    {
        "what": what,
        "threads": 1,
        "runs": 3,
        "budget_s": 1,
        "warmup": 1,
        "adapter": None,
        "shape": [1, 8],
    }
    for what in ("measure", "cold", "operators", "unpacked")
]


def endless(place: str) -> dict[str, Any]:
    """Return a request that takes longer than any test."""
    return {**REQUESTS[0], "bundles": [place], "runs": 10**8}


def program(name: str) -> str:
    """Return a program of OpenSSH's client: this machine's, or the one beside the server."""
    return shutil.which(name) or str(SERVER / "usr/bin" / name)


class Server:
    """An sshd on a free port of 127.0.0.1, with keys of its own.

    Attributes:
        home: the home folder of the user who logs in.
        programs: a folder that is first on that user's PATH.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home of a user"
        self.programs = folder / "programs"
        for made in (self.home, self.programs, folder / "system"):
            made.mkdir()
        for tool in (*Path("/bin").iterdir(), *Path("/usr/bin").iterdir()):
            place = folder / "system" / tool.name
            if not tool.name.startswith("python") and not place.is_symlink():
                place.symlink_to(tool)  # all of this system's programs but its Pythons
        for name in ("host", "key"):
            keygen = (program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f")
            subprocess.run([*keygen, folder / name], check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self._write()
        self._process: subprocess.Popen[bytes] | None = None
        self._made_run_folder = False

    @property
    def target(self) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}"

    def _write(self) -> None:
        settings = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.folder / "host",
            "AuthorizedKeysFile": self.folder / "key.pub",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PidFile": "none",
        }
        text = "".join(f"{name} {value}\n" for name, value in settings.items())
        (self.folder / "sshd_config").write_text(text)
        public = (self.folder / "host.pub").read_text()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public}")
        (self.folder / "ssh_config").write_text(
            f"IdentityFile {self.folder}/key\nIdentitiesOnly yes\nIdentityAgent none\n"
            f"UserKnownHostsFile {self.folder}/known_hosts\nGlobalKnownHostsFile none\n"
        )
        self.write_shell({k: v for k, v in os.environ.items() if k.startswith("PIP_")})
        shell = self.folder / "shell"
        entry = pwd.getpwuid(os.getuid())
        (self.folder / "passwd").write_text(
            f"{entry.pw_name}:x:{entry.pw_uid}:{entry.pw_gid}::{self.home}:{shell}\n"
            "sshd:x:65533:65534::/nonexistent:/usr/sbin/nologin\n"
        )

    def write_shell(self, environment: Mapping[str, str], first: str = "") -> None:
        """Make the login shell, which says hello as many a .bashrc does."""
        paths = {"PATH": f"{self.programs}:{self.folder}/system"}
        exports = "".join(
            f"export {name}={shlex.quote(value)}\n"
            for name, value in {**environment, **paths}.items()
        )
        shell = self.folder / "shell"
        shell.write_text(f'#!/bin/sh\necho welcome\n{exports}{first}\nexec /bin/sh "$@"\n')
        shell.chmod(0o755)

    def start(self) -> None:
        (wrapper,) = SERVER.rglob("libnss_wrapper.so")
        (library,) = SERVER.rglob("libwrap.so.0")
        if os.getuid() == 0 and not RUN_FOLDER.exists():
            RUN_FOLDER.mkdir()
            self._made_run_folder = True
        environment = {
            "PATH": os.environ["PATH"],
            "LD_PRELOAD": str(wrapper),
            "LD_LIBRARY_PATH": str(library.parent),
            "NSS_WRAPPER_PASSWD": str(self.folder / "passwd"),
            "NSS_WRAPPER_GROUP": "/etc/group",
        }
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [SERVER / "usr/sbin/sshd", "-D", "-e", "-f", self.folder / "sshd_config"],
                env=environment,
                stderr=log,
            )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.05)

    def kill_connections(self) -> None:
        """End the processes of sshd that hold connections, as a reboot does."""
        assert self._process is not None
        for child in psutil.Process(self._process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.name() == "sshd":
                    child.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._made_run_folder:
            RUN_FOLDER.rmdir()
            self._made_run_folder = False

    def offer(self, name: str, command: str) -> None:
        """Put a program on the user's PATH that runs a shell's command line."""
        program = self.programs / name
        program.write_text(f"#!/bin/sh\n{command}\n")
        program.chmod(0o755)

    def left(self) -> list[str]:
        """Return what is in the user's home, also while it vanishes."""
        found = [
            Path(top) / name
            for top, folders, files in os.walk(self.home)
            for name in (*folders, *files)
        ]
        return sorted(path.relative_to(self.home).as_posix() for path in found)

    def handshakes(self) -> int:
        return (self.folder / "log").read_text().count("Accepted publickey")

    def connections(self) -> list[psutil.Process]:
        assert self._process is not None
        return psutil.Process(self._process.pid).children()

    def agents(self) -> list[psutil.Process]:
        """Return the running processes that answer requests, and what they started."""
        assert self._process is not None
        return [
            process
            for process in psutil.process_iter(["cmdline", "environ", "status"])
            if any("edge_lra." in word for word in process.info["cmdline"] or ())
            and str(self.home) in (process.info["environ"] or {}).get("PYTHONPATH", "")
            and process.info["status"] != "zombie"
        ]


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Return a running sshd whose user has this Python, with all packages, as python3."""
    folder = tmp_path / "sshd"
    folder.mkdir()
    server = Server(folder)
    server.offer("python3", f'exec {shlex.quote(sys.executable)} "$@"')
    monkeypatch.setenv("EDGE_LRA_SSH_COMMAND", f"{program('ssh')} -F {folder}/ssh_config")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def small_bundle(tiny_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a merged bundle of the tiny model, in a folder whose name needs quoting."""
    folder = tmp_path_factory.mktemp('it\'s a "bundle"')
    request = ExportRequest(
        folder / "tiny one.edge",
        model=str(tiny_made / "model"),
        adapters=[("tiny", tiny_made / "adapter")],
        verify=False,
    )
    return export(request)
