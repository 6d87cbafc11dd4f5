"""A device over ssh: bundles are pushed by content, the agent runs in a Python there."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_lra.bundle import load_manifest
from edge_lra.errors import EdgeError
from edge_lra.transport.address import parse_ssh
from edge_lra.transport.base import Host
from edge_lra.transport.host import PROBE, normal_arch, parse_probe
from edge_lra.transport.openssh import Connection
from edge_lra.transport.package import build_wheel
from edge_lra.transport.process import AGENT, NO_TELEMETRY, failure, read_answer
from edge_lra.transport.remote_python import (
    CHECK_S,
    RemotePython,
    choose_python,
    find_pythons,
    make_venv,
    numbers,
    require_python,
)
from edge_lra.transport.session import Content, Progress, Session
from edge_lra.transport.shell import READ

RUN_S = 4 * 3600.0  # an emulated core under a busy device; ssh itself notices a dead link in 20 s
SIGNAL = 128  # a shell's exit code for a program that a signal ended, less its number
# From a zip every start compiles the sources anew: 69 ms instead of 33 for the imports, measured
# here, which would be told as the bundle's cold start.
UNPACK = """
import compileall, sys, zipfile
zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])
compileall.compile_dir(sys.argv[2], quiet=2)
"""
FAMILY = {"armv7l": "aarch64", "i686": "x86_64"}  # cores that run both


class Ssh:
    """A device reached by the system's OpenSSH.

    Nothing stays there unless `keep`: then files and the environment wait for the next profile.
    Nothing stays either when the connection breaks: a process there removes what was brought.

    Args:
        target: ssh://[user@]host[:port][/?python=PATH&store=PATH]
        keep: whether what was brought stays.
        progress: told of every piece that was sent.
        run_timeout_s: of one request.

    Raises:
        EdgeError: the target has another form.
    """

    name = "ssh"

    def __init__(
        self,
        target: str,
        keep: bool = False,
        progress: Progress | None = None,
        run_timeout_s: float = RUN_S,
    ) -> None:
        self.target = target
        self.keeps_time = True
        self._address = parse_ssh(target)
        self._keep = keep
        self._progress = progress
        self._run_timeout_s = run_timeout_s
        self._connection: Connection | None = None
        self._session: Session | None = None
        self._python: RemotePython | None = None
        self._runner: str | None = None
        self._pushed_bytes = 0  # by sessions that have ended

    @property
    def pushed_bytes(self) -> int:
        """Bytes of files that were sent so far."""
        return self._pushed_bytes + (self._session.pushed_bytes if self._session else 0)

    def probe(self) -> Host:
        """Return what is there; nothing is written.

        Where the Python is of another family of processors than the system, it is emulated: then
        the host is what the Python sees, and times there are not a device's.
        """
        shell = self._open()
        text = shell.call(PROBE, self._address.store).text
        if self._python is None:
            self._python = choose_python(shell, self._address.store, self._address.python)
        if self._python is None:
            return parse_probe(text)
        host = parse_probe(text, {"python": self._python.version, **self._python.packages})
        self.keeps_time = _family(host.arch) == _family(self._python.arch)
        if self.keeps_time:
            return replace(host, arch=self._python.arch)
        cpu = f"{self._python.arch} emulated on {host.cpu}"
        return replace(host, arch=self._python.arch, cpu=cpu, features=())

    def push(self, bundle: Path) -> str:
        """Bring a bundle's files there, but those that are there already.

        Raises:
            EdgeError: the target's Python, packages or disk do not do; nothing was sent then.
        """
        return self._prepare(bundle).bring_bundle(bundle)

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Let the agent answer a request there.

        Raises:
            TargetLost: the connection broke.
            EdgeError: the agent reports a mistake, failed, or took too long.
        """
        session = self._prepare()
        python = require_python(self.target, self._python, self._address.python)
        settings = {
            "PYTHONPATH": self._bring_runner(session, python),
            "TMPDIR": f"{session.folder}/tmp",
            "XDG_CACHE_HOME": f"{session.folder}/tmp",
            # The agent starts Python anew for a cold start: an emulated one as it is here.
            "EDGE_LRA_PYTHON": shlex.quote(python.path),
            **NO_TELEMETRY,
        }
        command = ["env", *(f"{name}={value}" for name, value in settings.items())]
        command += [python.path, "-P", "-m", AGENT]
        reply = session.run(command, json.dumps(dict(request)), self._run_timeout_s)
        if reply.code != 0:
            code = SIGNAL - reply.code if reply.code > SIGNAL else reply.code
            raise EdgeError(f"{self.target}: {failure(code, reply.err)}")
        return read_answer(self.target, reply.text)

    def pull(self, place: str, target: Path) -> None:
        """Copy a file from there.

        Raises:
            EdgeError: it is not there.
        """
        reply = self._open().call(READ, place)
        if reply.code != 0:
            raise EdgeError(f"{self.target}: {place} cannot be read: {reply.reason}; check it")
        target.write_bytes(reply.out)

    def clean_up(self) -> None:
        """End what runs there, remove what was brought, and close the connection."""
        try:
            if self._session is not None:
                self._session.end()
                self._pushed_bytes += self._session.pushed_bytes
        finally:
            if self._connection is not None:
                self._connection.close()
            self._connection = self._session = self._runner = None

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = Connection(self._address)
        return self._connection

    def _prepare(self, bundle: Path | None = None) -> Session:
        """Return the session with all that the agent needs to run a bundle.

        The cheap refusals come first: a bundle is only sent to where it can run.
        """
        shell = self._open()
        if self._python is None:
            self._python = choose_python(shell, self._address.store, self._address.python)
        python = require_python(self.target, self._python, self._address.python)
        if bundle is not None and not python.missing:
            self._require_onnxruntime(bundle, python)
        if self._session is None:
            self._session = Session(shell, self._address.store, self._keep, self._progress)
        if python.missing:
            path = make_venv(self._session, self.target, python, self._keep)
            (self._python,) = find_pythons(shell, [path])
            if bundle is not None:
                self._require_onnxruntime(bundle, self._python)
        return self._session

    def _bring_runner(self, session: Session, python: RemotePython) -> str:
        """Bring the wheel and unpack it; return the folder for PYTHONPATH."""
        if self._runner is None:
            wheel = build_wheel()
            content = Content(wheel.name, wheel.sha256, len(wheel.data), wheel.data)
            place = session.bring([content])[wheel.sha256]
            folder = f"{session.folder}/runner"
            command = [python.path, "-P", "-c", UNPACK, place, folder]
            reply = session.run(command, timeout_s=CHECK_S)
            if reply.code != 0:
                raise session.refused("the runner cannot be unpacked", reply)
            self._runner = folder
        return self._runner

    def _require_onnxruntime(self, bundle: Path, python: RemotePython) -> None:
        least = str(load_manifest(bundle).get("min_onnxruntime") or "0")
        found = python.packages["onnxruntime"]
        if numbers(found) < numbers(least):
            raise EdgeError(
                f"{self.target}: found onnxruntime {found} at {python.path}, expected {least} or "
                f"newer for {bundle}; run `{python.path} -m pip install --upgrade onnxruntime` "
                "there, or name another Python with ?python=/path"
            )


def _family(arch: str) -> str:
    return FAMILY.get(normal_arch(arch), normal_arch(arch))
