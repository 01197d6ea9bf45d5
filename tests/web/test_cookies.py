"""The cookie's form, and that nothing but our own pages uses it."""

from __future__ import annotations

import pytest

from fortress.web.call import OriginRefused
from fortress.web.cookies import (
    HEADER,
    VALUE_LENGTH_MAX,
    Credential,
    check_anti_forgery,
    check_origin,
    credential_of,
    name_of,
    new_random,
    no_cookie,
)

NAME = name_of("a")
TOKEN = "aaa.bbb.ccc"
RANDOM = bytes(range(16))
OURS = frozenset({"https://bank.example"})


def test_a_cookie_comes_back_as_it_was_given() -> None:
    """What the browser keeps is the token and the random bytes, out of reach of scripts and other sites."""
    given = Credential(TOKEN, RANDOM)
    value, *attributes = given.cookie(NAME).split("; ")
    name, _, content = value.partition("=")
    assert name == NAME and credential_of({name: content}, NAME) == given
    assert set(attributes) == {"Path=/", "Secure", "HttpOnly", "SameSite=Strict"}
    assert no_cookie(NAME).startswith(f"{NAME}=;") and no_cookie(NAME).endswith("Max-Age=0")


def test_banks_whose_pages_share_a_host_do_not_share_a_cookie() -> None:
    """Browsers send cookies to every port of a host: who signs in at one bank is not signed out of another."""
    value = Credential(TOKEN, RANDOM).cookie(name_of("b")).partition(";")[0].partition("=")[2]
    assert credential_of({name_of("b"): value}, NAME) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        TOKEN,
        f"{TOKEN}.",
        f"{TOKEN}.{RANDOM.hex()[:-1]}",
        f"{TOKEN}.{RANDOM.hex().upper()}",
        f"{TOKEN}.{RANDOM.hex()}\n",
        f"a b.c.d.{RANDOM.hex()}",
        f"ä.b.c.{RANDOM.hex()}",
        f"{'a' * VALUE_LENGTH_MAX}.b.c.{RANDOM.hex()}",
    ],
)
def test_what_is_no_cookie_of_ours_is_none(value: str) -> None:
    """Nobody is signed in by half a cookie, a foreign one or a very long one."""
    assert credential_of({NAME: value}, NAME) is None


def test_neither_token_nor_random_bytes_are_shown() -> None:
    """A credential in a log line or a traceback gives nothing away."""
    assert TOKEN not in repr(Credential(TOKEN, RANDOM)) and "x" not in repr(Credential(TOKEN, RANDOM))


def test_the_anti_forgery_token_follows_from_the_random_bytes_alone() -> None:
    """A renewed token leaves it as it is; another session has another one."""
    assert Credential("x.y.z", RANDOM).anti_forgery == Credential(TOKEN, RANDOM).anti_forgery
    assert Credential(TOKEN, new_random()).anti_forgery != Credential(TOKEN, RANDOM).anti_forgery


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ({"Origin": "https://bank.example"}, False),
        ({"Origin": "https://bank.example", "Sec-Fetch-Site": "same-origin"}, False),
        ({}, False),
        ({"Origin": "https://evil.example"}, True),
        ({"Origin": "http://bank.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "https://bank.example.evil.example"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Origin": "https://bank.example", "Sec-Fetch-Site": "cross-site"}, True),
    ],
)
def test_another_origin_is_refused(headers: dict[str, str], *, is_refused: bool) -> None:
    """A request that says that it comes from elsewhere changes nothing."""
    if is_refused:
        with pytest.raises(OriginRefused):
            check_origin(headers, OURS)
    else:
        check_origin(headers, OURS)


def test_a_websocket_must_say_where_it_comes_from() -> None:
    """Browsers always do."""
    with pytest.raises(OriginRefused):
        check_origin({}, OURS, is_told=True)


@pytest.mark.parametrize("told", [None, "", "0" * 64, "\udcff", Credential(TOKEN, bytes(16)).anti_forgery])
def test_a_change_without_the_right_anti_forgery_token_is_refused(told: str | None) -> None:
    """Missing, empty, garbage or another session's: all the same."""
    with pytest.raises(OriginRefused):
        check_anti_forgery({} if told is None else {HEADER: told}, Credential(TOKEN, RANDOM))


def test_the_right_anti_forgery_token_is_taken() -> None:
    """And before anybody is signed in, the header itself, which no other site can set, is enough."""
    check_anti_forgery({HEADER: Credential(TOKEN, RANDOM).anti_forgery}, Credential(TOKEN, RANDOM))
    check_anti_forgery({HEADER: "none"}, None)
    with pytest.raises(OriginRefused):
        check_anti_forgery({}, None)
