"""The system's OpenSSH client: the user's config, keys and agent; one handshake for all calls."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from edge_lra.errors import EdgeError
from edge_lra.transport.address import SshAddress
from edge_lra.transport.process import TargetLost
from edge_lra.transport.shell import Reply, Shell, command_line, first_line, own_group

# The command to use instead of `ssh`, with its options, such as `ssh -F file`.
SSH_COMMAND = "EDGE_LRA_SSH_COMMAND"
CONNECT_S = 10
OPEN_S = 60.0  # of the whole handshake, through whatever proxy
MAX_SOCKET = 70  # sun_path has 104 places on macOS; ssh appends 17 for a moment
CONNECTION_FAILED = 255  # ssh's own exit code
IDLE = "echo open; while read -r _; do :; done"
OPTIONS = {
    "BatchMode": "yes",  # a password prompt would wait for ever in a pipe
    "ConnectTimeout": str(CONNECT_S),
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "4",
    "ClearAllForwardings": "yes",  # one that is taken already would end the connection
    "ForwardAgent": "no",
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "PermitLocalCommand": "no",
    "ControlPersist": "no",
    "LogLevel": "ERROR",
}


class Connection(Shell):
    """An open connection. Its master ends with this process, however that ends."""

    def __init__(self, address: SshAddress) -> None:
        self._address = address
        self._folder = Path(tempfile.mkdtemp(prefix="edge-lra-", dir=_short_folder()))
        self._master: subprocess.Popen[bytes] | None = None
        ssh = [*ssh_command(address.target), *_options(OPTIONS), *_where(address)]
        # Windows' OpenSSH has no ControlMaster: there every call shakes hands for itself.
        self._shares = os.name != "nt"
        socket = {"ControlPath": str(self._folder / "s")} if self._shares else {}
        super().__init__(
            [*ssh, *_options(socket | {"ControlMaster": "no"}), "--", address.host],
            address.target,
        )
        try:
            self._open([*ssh, *_options(socket | {"ControlMaster": "yes"}), "--", address.host])
        except BaseException:
            self.close()
            raise

    def _open(self, ssh: list[str]) -> None:
        """Start the master, which waits for the end of its standard input.

        Raises:
            EdgeError: the target cannot be reached, or does not let us in.
        """
        with (self._folder / "errors").open("wb") as errors:
            self._master = subprocess.Popen(
                [*ssh, command_line(IDLE, ())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                **own_group(),
            )
        line = first_line(self._master, OPEN_S)
        if line == "":
            raise EdgeError(f"{self.target}: no answer after {OPEN_S:g} s; check the device")
        if line is None:
            self._master.wait()
            raise EdgeError(f"{self.target}: {_explain(self._address, self._errors())}")

    def call(self, script: str, *arguments: str, **options: Any) -> Reply:
        """Run a script to its end, as Shell does.

        Raises:
            TargetLost: the connection broke before or while it ran.
            EdgeError: the time is over.
        """
        self._require_open()
        reply = super().call(script, *arguments, **options)
        if reply.code == CONNECTION_FAILED and self._shares:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self._master is not None:
                    self._master.wait(2)  # it learns of a broken connection as its calls do
            self._require_open()
        if reply.code == CONNECTION_FAILED:
            raise TargetLost(self._lost(reply.reason))
        return reply

    def _require_open(self) -> None:
        if self._master is None or self._master.poll() is not None:
            raise TargetLost(self._lost(self._errors()))

    def _lost(self, errors: str) -> str:
        last = next(reversed(errors.strip().splitlines()), "").strip()
        return (
            f"{self.target}: the connection was lost{f' ({last})' if last else ''}; "
            "check the device's power and network, then run it again"
        )

    def _errors(self) -> str:
        try:
            return (self._folder / "errors").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def close(self) -> None:
        """Close the connection and remove the socket; calls that still run are cut off."""
        if self._master is not None:
            with contextlib.suppress(OSError):
                if self._master.stdin is not None:
                    self._master.stdin.close()
            try:
                self._master.wait(5)
            except subprocess.TimeoutExpired:
                self._master.kill()
                self._master.wait()
            if self._master.stdout is not None:
                self._master.stdout.close()
            self._master = None
        shutil.rmtree(self._folder, ignore_errors=True)


def ssh_command(target: str) -> list[str]:
    """Return the ssh program with its first options.

    Raises:
        EdgeError: it is not installed.
    """
    command = shlex.split(os.environ.get(SSH_COMMAND) or "ssh")
    if shutil.which(command[0]) is None:
        raise EdgeError(
            f"{target}: found no program {command[0]!r}, expected OpenSSH's client; install "
            f"openssh-client, or name another in {SSH_COMMAND}"
        )
    return command


def _options(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


def _where(address: SshAddress) -> list[str]:
    port = ["-p", str(address.port)] if address.port else []
    return [*port, *(["-l", address.user] if address.user else [])]


def _short_folder() -> str | None:
    return "/tmp" if os.name != "nt" and len(tempfile.gettempdir()) > MAX_SOCKET - 20 else None


def _explain(address: SshAddress, errors: str) -> str:
    """Return one line on why ssh did not get in, with what to do."""
    last = next(reversed(errors.strip().splitlines()), "").strip() or "ssh ended"
    by_hand = f"ssh {address.login}"
    if "Permission denied" in errors or "Too many authentication" in errors:
        return (
            "refused our keys, and passwords are not asked for; put a key there with "
            f"`ssh-copy-id {address.login}`, or `ssh-add` one that has a passphrase"
        )
    if "Host key verification failed" in errors:
        return f"its host key is not known or has changed; check it with `{by_hand}`"
    if "refused" in errors:
        return f"{last}; is sshd running there? Check host and port with `{by_hand}`"
    if "resolve hostname" in errors:
        return f"{last}; check the name"
    return f"{last}; check that `{by_hand}` works"
