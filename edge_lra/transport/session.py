"""A folder on a target that lives no longer than the connection, and what is brought into it.

    STORE/once-PID/     this session's, removed at its end by a process there that waits for it
    STORE/files/SHA256  contents that --keep left, for later sessions
    STORE/venv/         the environment that --keep left

So nothing stays when the connection breaks, and a bundle's file is never sent twice to a target
that kept it, whatever bundle it was a part of. Needs a POSIX shell there, and no Python.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from edge_lra.bundle import MANIFEST, load_manifest, sha256_file
from edge_lra.errors import EdgeError
from edge_lra.transport.shell import Reply, Shell, first_line

# What is being sent, bytes so far, bytes in all.
Progress = Callable[[str, int, int], None]
OPEN_S = 30.0
END_S = 20.0
HASHED_MIB_PER_S = 10  # of a slow card
MIB = 2**20

# $1: the store. Makes the session's folder, prints it, waits for the end of its input, then ends
# what still runs and removes what it made. Folders of sessions whose process is gone go first.
GUARD = r"""
cd "$HOME" 2>/dev/null
store=$1; made=0; path=$store
while [ ! -d "$path" ]; do made=$((made+1)); path=$(dirname "$path"); done
umask 077
mkdir -p "$store" && cd "$store" && store=$(pwd -P) || exit 1
for old in once-*; do
  [ -d "$old" ] || continue
  pid=${old#once-}
  kill -0 "$pid" 2>/dev/null || [ -d "/proc/$pid" ] || rm -rf "$old"
done
folder=$store/once-$$
trap "" HUP INT TERM PIPE
forget() {
  cd /
  rm -rf "$folder" || { sleep 1; rm -rf "$folder"; }
  while [ "$made" -gt 0 ]; do
    rmdir "$store" 2>/dev/null || break
    store=$(dirname "$store"); made=$((made-1))
  done
}
mkdir "$folder" "$folder/files" "$folder/tmp" || { forget; exit 1; }
printf "%s\n" "$folder"
while read -r _; do :; done
for file in "$folder"/*.pid; do
  [ -f "$file" ] || continue
  pid=$(cat "$file")
  kill -KILL "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null
done
forget
"""
# $1: the session's folder; the rest is a command. Gives it the first line of the input, and ends
# it with all its processes when the input ends: then nobody waits for it any more.
WATCHED = r"""
folder=$1; shift
trap "" HUP PIPE
cd "$folder" || exit 1
IFS= read -r line
exec 3<&0
leader=; command -v setsid >/dev/null 2>&1 && leader=setsid
printf "%s" "$line" | $leader "$@" 3<&- &
child=$!
printf "%s" "$child" >"$child.pid"
(
  while read -r _ <&3; do :; done
  kill -KILL "-$child" || kill -KILL "$child"
) >/dev/null 2>&1 &
watcher=$!
wait "$child" 2>/dev/null; code=$?
kill "$watcher" 2>/dev/null
rm -f "$child.pid"
exit "$code"
"""
# $1: a folder, then names of files in it: prints name, size and sha256 of those that are there.
LIST = r"""
cd "$1" 2>/dev/null || exit 0
shift
hash() {
  sha256sum <"$1" 2>/dev/null || shasum -a 256 <"$1" 2>/dev/null || printf "unknown"
}
for name in "$@"; do
  [ -f "$name" ] || continue
  sum=$(hash "$name")
  printf "%s %s %s\n" "$name" "$(wc -c <"$name")" "${sum%% *}"
done
"""
# $1: the session's folder, $2: where to, $3: a name, $4: its size. Whole or not at all.
RECEIVE = r"""
umask 077
mkdir -p "$2" && cat >"$1/incoming" && [ "$(wc -c <"$1/incoming")" -eq "$4" ] &&
  mv "$1/incoming" "$2/$3" && exit 0
rm -f "$1/incoming"
exit 1
"""
# Pairs of a file and its new place; a link where the disk can, for it costs nothing.
PLACE = r"""
umask 077
while [ $# -gt 1 ]; do
  mkdir -p "$(dirname "$2")" || exit 1
  rm -f "$2"
  ln "$1" "$2" 2>/dev/null || cp "$1" "$2" || exit 1
  shift 2
done
"""
# $1: a new environment, $2: its place. Python finds its packages wherever the folder lies.
KEEP = r"""
rm -rf "$2" && mv "$1" "$2"
"""
DISK = r'df -Pk "$1" | tail -n 1'


class Content(NamedTuple):
    """A file to bring: what it is called in a progress bar, its digest, size and source."""

    name: str
    sha256: str
    size: int
    source: Path | bytes

    def open(self) -> IO[bytes]:
        """Return a stream of its bytes."""
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open("rb")


class Session:
    """This session's folder on a target.

    Args:
        shell: the way there.
        store: the folder there that all sessions share.
        keep: whether contents stay for later sessions.
        progress: told of every piece that was sent.
    """

    def __init__(
        self, shell: Shell, store: str, keep: bool, progress: Progress | None = None
    ) -> None:
        self.pushed_bytes = 0
        self._shell = shell
        self._keep = keep
        self._progress = progress
        self._bundles: dict[str, str] = {}  # places by the manifest's digest
        self._guard = shell.start(GUARD, store, stderr=subprocess.PIPE)
        line = first_line(self._guard, OPEN_S)
        if not line:
            self._guard.kill()
            reason = self._guard.communicate()[1].decode("utf-8", "replace").strip()
            raise EdgeError(
                f"{shell.target}: the folder {store.removeprefix('./')} cannot be made there"
                f"{f' ({reason})' if reason else ''}; free space, or choose one with ?store=/path"
            )
        self.folder = line
        self.store = line.rpartition("/")[0]

    def bring(self, contents: Sequence[Content]) -> Mapping[str, str]:
        """Send what is not there yet; return the place of each content by its digest.

        Raises:
            EdgeError: the disk there is too small or fills up.
        """
        kept, own = f"{self.store}/files", f"{self.folder}/files"
        places = {sha: f"{kept}/{sha}" for sha in self._list(kept, contents)}
        missing = {item.sha256: item for item in contents if item.sha256 not in places}
        home = kept if self._keep else own
        there = self._list(own, list(missing.values()))
        places |= {sha: f"{own}/{sha}" for sha in there}
        wanted = [item for sha, item in missing.items() if sha not in there]
        total = sum(item.size for item in wanted)
        self.require_disk(total)
        sent = 0
        for item in wanted:
            self._send(item, home, sent, total)
            sent += item.size
            places[item.sha256] = f"{home}/{item.sha256}"
        return places

    def bring_bundle(self, bundle: Path) -> str:
        """Bring a bundle's files and put them together; return the folder there.

        Raises:
            EdgeError: it is no bundle, or the disk there refuses.
        """
        manifest, own = load_manifest(bundle), bundle / MANIFEST
        digest = sha256_file(own)
        if digest not in self._bundles:
            files = [(n, e["sha256"], int(e["size"])) for n, e in manifest["files"].items()]
            files.append((MANIFEST, digest, own.stat().st_size))
            there = self.bring([Content(n, sha, size, bundle / n) for n, sha, size in files])
            place = f"{self.folder}/{digest[:12]}/{bundle.resolve().name}"
            self.place({f"{place}/{name}": there[sha] for name, sha, _ in files})
            self._bundles[digest] = place
        return self._bundles[digest]

    def place(self, moves: Mapping[str, str]) -> None:
        """Put brought files at their new places, by new place."""
        pairs = [path for new, old in moves.items() for path in (old, new)]
        reply = self._shell.call(PLACE, *pairs)
        if reply.code != 0:
            raise self.refused("the bundle cannot be put together", reply)

    def require_disk(self, needed_bytes: int) -> None:
        """Check that the store's disk has room.

        Raises:
            EdgeError: it has not.
        """
        fields = self._shell.call(DISK, self.folder).text.split()
        numbers = [int(field) for field in fields if field.isdigit()]
        if len(numbers) >= 3 and numbers[2] * 1024 < needed_bytes:
            raise EdgeError(
                f"{self._shell.target}: found {numbers[2] / 1024:.1f} MiB free at {self.store}, "
                f"expected {needed_bytes / MIB:.1f} MiB; free space, or choose another folder "
                "with ?store=/path"
            )

    def run(self, command: Sequence[str], line: str = "", timeout_s: float = END_S) -> Reply:
        """Run a command that gets one line of input and does not outlive this session."""
        return self._shell.call(WATCHED, self.folder, *command, line=line, timeout_s=timeout_s)

    def keep_venv(self, folder: str) -> str:
        """Move a whole environment to where later sessions look; return its Python's path."""
        reply = self._shell.call(KEEP, folder, f"{self.store}/venv")
        if reply.code != 0:
            raise self.refused("the environment cannot be kept", reply)
        return f"{self.store}/venv/bin/python"

    def end(self) -> None:
        """End what runs there and remove the folder; harmless when the connection is gone."""
        with contextlib.suppress(OSError):
            if self._guard.stdin is not None:
                self._guard.stdin.close()
        try:
            self._guard.wait(END_S)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        for stream in (self._guard.stdout, self._guard.stderr):
            if stream is not None:
                stream.close()

    def _list(self, folder: str, contents: Sequence[Content]) -> set[str]:
        """Return the digests of those that are whole in a folder."""
        sizes = {item.sha256: item.size for item in contents}
        timeout_s = OPEN_S + sum(sizes.values()) / MIB / HASHED_MIB_PER_S
        text = self._shell.call(LIST, folder, *sizes, timeout_s=timeout_s).text
        rows = [line.split() for line in text.splitlines()]
        return {
            name
            for name, size, digest in (row for row in rows if len(row) == 3)
            if int(size) == sizes.get(name) and digest in (name, "unknown")
        }

    def _send(self, item: Content, folder: str, before: int, total: int) -> None:
        """Send one content, counting its bytes."""
        sent = 0

        def count(size: int) -> None:
            nonlocal sent
            sent += size
            self.pushed_bytes += size
            if self._progress is not None:
                self._progress(item.name, before + sent, total)

        arguments = (self.folder, folder, item.sha256, str(item.size))
        with item.open() as source:
            reply = self._shell.call(RECEIVE, *arguments, source=source, on_bytes=count)
        if reply.code != 0:
            raise self.refused(f"{item.name} cannot be written to {self.store}", reply)

    def refused(self, what: str, reply: Reply) -> EdgeError:
        """Return the error for a step that the target's disk or system refused."""
        reason = reply.reason.rpartition(": ")[2] or f"exit code {reply.code}"
        remedy = "free space, or choose another folder with ?store=/path"
        return EdgeError(f"{self._shell.target}: {what}: {reason}; {remedy}")
