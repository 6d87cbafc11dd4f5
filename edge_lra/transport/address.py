"""What follows `--target`: where a device is and how to talk to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from edge_lra.errors import EdgeError

FORMS = (
    "ssh://[user@]host[:port], ssh://host/?python=/path&store=/path, or adb: or adb:SERIAL "
    "for an Android device"
)
STORE = ".cache/edge-lra"  # in the home folder there
QUERY = ("python", "store")


@dataclass(frozen=True)
class SshAddress:
    """An ssh target.

    Attributes:
        target: as the user wrote it.
        host: a name that ssh knows: of the network, or a Host of the user's ssh config.
        user, port: None leaves them to ssh's config.
        python: the Python to run there; None looks for one.
        store: the folder there for what is brought; a path without a leading / is in the home.
    """

    target: str
    host: str
    user: str | None
    port: int | None
    python: str | None
    store: str

    @property
    def login(self) -> str:
        """What a user types to get there by hand, after `ssh`."""
        port = f"-p {self.port} " if self.port else ""
        return f"{port}{self.user}@{self.host}" if self.user else f"{port}{self.host}"


def parse_ssh(target: str) -> SshAddress:
    """Return the parts of an ssh:// target.

    Raises:
        EdgeError: it has another form, or a setting that is not known.
    """
    shape = (
        r"ssh://(?:(?P<user>[^@/?\s-][^@/?\s]*)@)?"
        r"(?P<host>\[[0-9a-fA-F:.%\w]+\]|[^@:/?\s-][^@:/?\s]*)"
        r"(?::(?P<port>\d{1,5}))?/?(?:\?(?P<query>.*))?"
    )
    match = re.fullmatch(shape, target)
    if match is None or not 0 < int(match["port"] or 1) < 65536:
        raise bad_target(target)
    settings = parse_qsl(match["query"] or "", keep_blank_values=True)
    given = dict(settings)
    unknown = [name for name in given if name not in QUERY]
    if unknown or len(given) != len(settings) or "" in given.values():
        odd = ", ".join(unknown) or "one twice or empty"
        raise EdgeError(f"{target}: found setting {odd}, expected one of {', '.join(QUERY)}")
    store = given.get("store", STORE)
    if "store" in given and not store.startswith(("/", "~/")):
        raise EdgeError(
            f"{target}: found store={store}, expected an absolute path or one that begins with ~/"
        )
    return SshAddress(
        target,
        match["host"].strip("[]"),
        match["user"],
        int(match["port"]) if match["port"] else None,
        given.get("python"),
        store if store.startswith("/") else "./" + store.removeprefix("~/"),
    )


def parse_adb(target: str) -> str | None:
    """Return the serial of an adb: target; None for the only device.

    Raises:
        EdgeError: it has another form.
    """
    match = re.fullmatch(r"adb:(?P<serial>[\w.:-]*)", target)
    if match is None or match["serial"].startswith("-"):
        raise bad_target(target)
    return match["serial"] or None


def bad_target(target: str) -> EdgeError:
    """Return the error that lists the forms."""
    return EdgeError(f"--target: found {target!r}, expected {FORMS}")
