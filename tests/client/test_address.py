"""Tests of addresses: what is read, what is refused."""

from __future__ import annotations

import pytest

from fortress import config
from fortress.client.address import BANK_PATTERN, Address, format_endpoint, parse, parse_endpoint
from fortress.errors import UsageError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("fortress://127.0.0.1:7611/a", Address((("127.0.0.1", 7611),), "a")),
        ("fortress://bank.example/a", Address((("bank.example", 7611),), "a")),
        ("fortress://x:1,y:2/my-bank", Address((("x", 1), ("y", 2)), "my-bank")),
        ("fortress://x:1,x:1/a", Address((("x", 1),), "a")),
        ("fortress://[::1]:5,[fe80::1]/a", Address((("::1", 5), ("fe80::1", 7611)), "a")),
    ],
)
def test_an_address_is_read_and_written(text: str, address: Address) -> None:
    """Several nodes, default ports, IPv6; written again it reads the same."""
    assert parse(text) == address
    assert parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://x/a",
        "fortress://x",
        "fortress://x/",
        "fortress://x/A",
        "fortress:///a",
        "fortress://x:0/a",
        "fortress://x:65536/a",
        "fortress://x:y/a",
        "fortress://x,/a",
        "fortress://::1:5/a",
        "fortress://x/a/b",
        "fortress://" + ",".join(f"x{n}" for n in range(17)) + "/a",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """The error shows what one looks like."""
    with pytest.raises(UsageError, match="is not an address"):
        parse(text)


def test_an_ipv6_address_stands_in_brackets() -> None:
    """So that its colons are not taken for the port's."""
    assert format_endpoint(("::1", 5)) == "[::1]:5"
    assert parse_endpoint("[::1]:5") == ("::1", 5)


def test_a_banks_id_is_what_the_settings_say() -> None:
    """It is written twice so that a command need not load all settings, and must not drift apart."""
    assert BANK_PATTERN == config.ID_PATTERN
