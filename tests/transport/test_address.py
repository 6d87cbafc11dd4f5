"""How targets are written."""

from __future__ import annotations

import pytest

from edge_lra.errors import EdgeError
from edge_lra.transport import Adb, Ssh, open_target
from edge_lra.transport.address import parse_adb, parse_ssh


def test_the_parts_of_an_ssh_target() -> None:
    found = parse_ssh("ssh://me@Board.local:2222/?python=/opt/my%20python&store=~/x")
    assert (found.user, found.host, found.port) == ("me", "Board.local", 2222)
    assert (found.python, found.store) == ("/opt/my python", "./x")
    assert found.login == "-p 2222 me@Board.local"


def test_what_is_left_out_is_left_to_sshs_config() -> None:
    found = parse_ssh("ssh://board")
    assert (found.user, found.port, found.python) == (None, None, None)
    assert found.store == "./.cache/edge-lra" and found.login == "board"


def test_an_ipv6_host_has_brackets() -> None:
    assert parse_ssh("ssh://root@[fe80::1]:22").host == "fe80::1"


@pytest.mark.parametrize(
    "target",
    [
        "",
        "pi@board",
        "ssh:board",
        "ssh://",
        "ssh://-oProxyCommand=x",
        "ssh://-l@board",
        "ssh://board:0",
        "ssh://board:99999",
        "ssh://board/path",
        "ssh://a b",
        "ftp://board",
        "adb:two words",
        "adb:-s",
    ],
)
def test_another_form_lists_the_forms(target: str) -> None:
    with pytest.raises(EdgeError, match=r"expected ssh://\[user@\]host\[:port\].*adb:SERIAL"):
        open_target(target)


@pytest.mark.parametrize("query", ["pyhton=/x", "python=", "python=/a&python=/b", "keep=1"])
def test_a_setting_that_is_not_known_is_refused(query: str) -> None:
    with pytest.raises(EdgeError, match="expected one of python, store"):
        parse_ssh(f"ssh://board?{query}")


def test_a_store_without_a_place_is_refused() -> None:
    with pytest.raises(EdgeError, match="expected an absolute path or one that begins with ~/"):
        parse_ssh("ssh://board?store=here")


def test_a_target_opens_its_transport() -> None:
    assert isinstance(open_target("ssh://board"), Ssh)
    assert isinstance(open_target("adb:"), Adb)
    assert parse_adb("adb:") is None
    assert parse_adb("adb:192.168.1.5:5555") == "192.168.1.5:5555"
