"""The frame before the handshake, and what may come back: read as written, and nothing else is taken for it."""

from __future__ import annotations

import re

import pytest

from fortress.config import ID_PATTERN
from fortress.errors import Busy, FortressError, HandshakeFailed, NoPrimary, NotPrimary
from fortress.protocol import routes
from fortress.protocol.routes import Notice, Route, decode_route, is_notice, is_route, take_notice

MALFORMED = [
    b"",
    b"a",
    b"a\0any\0",
    b"\0",
    b"A\0",
    b"1\0",
    b"a\n\0",
    b"a\0any\n",
    b"a\0ANY",
    b"a" * 33 + b"\0",
    b"a\0" + b"x" * 65,
    b"\xff\0",
]
ENDS = {
    Notice.bank_unknown: HandshakeFailed,
    Notice.bank_down: NoPrimary,
    Notice.full: Busy,
    Notice.standby: NotPrimary,
}


@pytest.mark.parametrize("route", [Route("a"), Route("bank-1", "any"), Route("a" * 32, "x,any,y"), Route("a", "")])
def test_a_route_is_read_as_it_was_written(route: Route) -> None:
    """Of any length, 32 bytes too: that of a public key."""
    content = route.encode()
    assert is_route(content)
    assert not is_notice(content)
    assert decode_route(content) == route
    assert decode_route(Route("a" * 13).encode()) == Route("a" * 13)
    assert len(Route("a" * 13).encode()) == 32


@pytest.mark.parametrize("rest", MALFORMED)
def test_a_malformed_route_is_refused(rest: bytes) -> None:
    """No bank, a name that is none, flags that are none, something behind it."""
    with pytest.raises(HandshakeFailed, match="malformed"):
        decode_route(routes.ROUTE_LABEL + rest)


def test_banks_are_named_here_as_everywhere() -> None:
    """The pattern is that of the settings."""
    assert f"({ID_PATTERN})".encode() in routes._ROUTE.pattern
    assert re.fullmatch(ID_PATTERN, "a" * 32)


@pytest.mark.parametrize(("flags", "takes"), [("", False), ("any", True), ("x,any", True), ("anyone", False)])
def test_a_standby_will_do_for_who_says_so(flags: str, takes: bool) -> None:
    """Words that are not known mean nothing."""
    assert Route("a", flags).takes_standby is takes


@pytest.mark.parametrize("notice", ENDS)
def test_a_notice_is_an_error_with_the_bank_in_it(notice: Notice) -> None:
    """Which says whether trying again makes sense."""
    content = notice.encode()
    assert is_notice(content)
    assert not is_route(content)
    with pytest.raises(ENDS[notice]) as refused:
        take_notice(content, "b")
    assert refused.value.facts == {"bank": "b"}
    assert isinstance(notice.error("b"), FortressError)


def test_that_somebody_waits_is_no_end() -> None:
    """It only becomes one if nothing else comes."""
    take_notice(Notice.waiting.encode(), "b")
    assert isinstance(Notice.waiting.error("b"), NoPrimary)


@pytest.mark.parametrize("word", [b"", b"bank-unknown ", b"\x1b[2Jpay me", b"\xff" * 60_000])
def test_a_word_that_is_not_known_is_not_shown(word: bytes) -> None:
    """Nobody vouches for it."""
    with pytest.raises(HandshakeFailed) as refused:
        take_notice(routes.NOTICE_LABEL + word, "b")
    assert refused.value.message == "the connection was refused before the handshake, for a reason not known here"
