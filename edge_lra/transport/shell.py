"""Scripts run on a target through a program that passes them on, such as ssh or adb shell."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, NamedTuple

from edge_lra.errors import EdgeError

MARK = "=edge-lra="  # before it, a login shell's own greetings
CHUNK = 1 << 16
STALL_S = 60.0  # without a byte passing
READ = r'cat <"$1"'  # a file


class Reply(NamedTuple):
    """How a script ended and what it printed."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """The output as text."""
        return self.out.decode("utf-8", "replace")

    @property
    def reason(self) -> str:
        """The last line that was printed as an error."""
        return next(reversed(self.err.strip().splitlines()), "").strip()


def command_line(script: str, arguments: Sequence[str]) -> str:
    """Return a script with its arguments as one line for a login shell, whatever they hold.

    Every argument is quoted once and reaches the script as "$1" …, so none is ever parsed.
    """
    return shlex.join(["exec", "sh", "-c", f"echo {MARK}\n{script}", "edge-lra", *arguments])


class Shell:
    """A target's POSIX shell behind a program of this machine.

    Args:
        program: what runs a line there, such as `ssh host`.
        target: its name in errors.
    """

    def __init__(self, program: Sequence[str], target: str) -> None:
        self._program = list(program)
        self.target = target

    def call(
        self,
        script: str,
        *arguments: str,
        line: str | None = None,
        source: IO[bytes] | None = None,
        timeout_s: float = STALL_S,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Reply:
        """Run a script to its end.

        Args:
            script: for a POSIX shell.
            arguments: its "$1" and so on.
            line: given to its standard input, which then stays open until the script ends:
                so the script can tell an abandoned call.
            source: given to its standard input, which then ends.
            timeout_s: of the whole call; with a source, between two chunks and after the last.
            on_bytes: told how many bytes of the source were passed on.

        Raises:
            EdgeError: the time is over.
        """
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = self.start(script, *arguments, stdout=out, stderr=err)
            with ended(process):
                if line is not None:
                    _write(process, line.encode() + b"\n")
                elif source is not None and not _feed(process, source, timeout_s, on_bytes):
                    raise self._silence(timeout_s)
                if line is None:
                    _close(process)
                try:
                    code = process.wait(timeout_s)
                except subprocess.TimeoutExpired:
                    raise self._silence(timeout_s) from None
            out.seek(0)
            err.seek(0)
            _, _, printed = out.read().partition(f"{MARK}\n".encode())
            return Reply(code, printed, err.read().decode("utf-8", "replace"))

    def _silence(self, timeout_s: float) -> EdgeError:
        return EdgeError(f"{self.target}: no answer after {timeout_s:g} s; check the device")

    def start(
        self, script: str, *arguments: str, stdout: Any = subprocess.PIPE, stderr: Any = None
    ) -> subprocess.Popen[bytes]:
        """Start a script; its standard input is a pipe.

        Ctrl-C reaches this process alone: the way to the target is needed to clean up.
        """
        return subprocess.Popen(
            [*self._program, command_line(script, arguments)],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            bufsize=0,
            **own_group(),
        )


def own_group() -> dict[str, Any]:
    """Return what keeps a child out of the terminal's group, which gets Ctrl-C."""
    if os.name == "nt":
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True}


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave no process behind, however the block ends."""
    try:
        yield
    finally:
        _close(process)
        if process.poll() is None:
            process.kill()
            process.wait()


def first_line(process: subprocess.Popen[bytes], timeout_s: float) -> str | None:
    """Return the first line after MARK, None if the process ended before, "" if time is over."""
    found: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        marked = False
        for raw in process.stdout:
            text = raw.decode("utf-8", "replace").rstrip("\n")
            if marked:
                found.append(text)
                return
            marked = text == MARK

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(timeout_s)
    if reader.is_alive():
        return ""
    return found[0] if found else None


def _feed(
    process: subprocess.Popen[bytes],
    source: IO[bytes],
    timeout_s: float,
    on_bytes: Callable[[int], None] | None,
) -> bool:
    """Pass a source on; kill the process and return False when nothing moves for too long."""
    moved = [time.monotonic()]
    done, stalled = threading.Event(), threading.Event()

    def watch() -> None:
        while not done.wait(min(1.0, timeout_s / 4)):
            if time.monotonic() - moved[0] > timeout_s:
                stalled.set()
                process.kill()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        while block := source.read(CHUNK):
            if not _write(process, block):
                break  # its exit code and errors tell why
            moved[0] = time.monotonic()
            if on_bytes is not None:
                on_bytes(len(block))
    finally:
        done.set()
    return not stalled.is_set()


def _write(process: subprocess.Popen[bytes], data: bytes) -> bool:
    assert process.stdin is not None
    view = memoryview(data)
    try:
        while view:  # unbuffered: a pipe may take less than it is given
            view = view[process.stdin.write(view) or 0 :]
    except (BrokenPipeError, OSError):
        return False
    return True


def _close(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
