"""A token is worth what the bank signed, for as long as it said, unless it was taken back."""

from __future__ import annotations

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fortress.errors import TokenRejected
from fortress.server import tokens as module
from fortress.server.tokens import SKEW_US_MAX, Tokens

SEED = bytes(range(32))
NOW = 1_700_000_000_123_456
SESSION = bytes(range(16))
ROLES = frozenset({"teller", "customer"})
SECOND = 1_000_000


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(SEED, "bank-a", 900)


def test_a_token_says_what_was_put_in(tokens: Tokens) -> None:
    """Customer, roles, session and times come back."""
    token, expires_us = tokens.issue(42, ROLES, SESSION, NOW)
    claims = tokens.verify(token, NOW)
    assert (claims.customer, claims.roles, claims.session) == (42, ("customer", "teller"), SESSION)
    assert (claims.issued_us, claims.expires_us) == (NOW, expires_us)
    assert NOW < expires_us <= NOW + 900 * SECOND


def test_the_standard_library_of_tokens_reads_it(tokens: Tokens) -> None:
    """Others verify it with the public key by RFC 7519 alone."""
    token, _ = tokens.issue(42, ROLES, SESSION, NOW)
    public = Ed25519PrivateKey.from_private_bytes(SEED).public_key()
    options = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(token, public, algorithms=["EdDSA"], audience="bank-a", options=options)
    assert claims["sub"] == "42"
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "typ": "JWT"}


def test_it_expires(tokens: Tokens) -> None:
    """At its expiry it is over, not a moment later."""
    token, expires_us = tokens.issue(42, ROLES, SESSION, NOW)
    tokens.verify(token, expires_us - 1)
    with pytest.raises(TokenRejected):
        tokens.verify(token, expires_us)


def test_it_is_not_valid_before_it_was_issued(tokens: Tokens) -> None:
    """A clock set back does not revive old sessions; another node's that is a little behind takes its tokens."""
    token, _ = tokens.issue(42, ROLES, SESSION, NOW)
    tokens.verify(token, NOW - SKEW_US_MAX)
    with pytest.raises(TokenRejected):
        tokens.verify(token, NOW - SKEW_US_MAX - 1)


def test_another_bank_or_key_is_refused(tokens: Tokens) -> None:
    """The audience and the signature must be this bank's."""
    for other in (Tokens(SEED, "bank-b", 900), Tokens(bytes(32), "bank-a", 900)):
        token, _ = other.issue(42, ROLES, SESSION, NOW)
        with pytest.raises(TokenRejected):
            tokens.verify(token, NOW)


def test_every_changed_character_is_noticed(tokens: Tokens) -> None:
    """No character of header, claims or signature can be swapped for another."""
    token, _ = tokens.issue(42, ROLES, SESSION, NOW)
    # the last character carries only four bits of the signature
    for at in range(len(token) - 1):
        changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        with pytest.raises(TokenRejected):
            tokens.verify(changed, NOW)


@pytest.mark.parametrize(
    "key_and_algorithm", [(None, "none"), ("x" * 32, "HS256"), (Ed25519PrivateKey.from_private_bytes(SEED), "EdDSA")]
)
@pytest.mark.parametrize("claims", [{}, {"sub": "x"}, {"sid": "zz"}, {"iat": "1"}, {"exp": None}, {"roles": 3}])
def test_foreign_and_incomplete_tokens_are_refused(
    tokens: Tokens, claims: dict[str, object], key_and_algorithm: tuple[str | Ed25519PrivateKey | None, str]
) -> None:
    """Neither an unsigned token, nor one by another algorithm, nor one with claims missing or of a wrong type."""
    key, algorithm = key_and_algorithm
    whole = {"aud": "bank-a", "sub": "1", "roles": [], "sid": "00", "iat": 1, "exp": 2**40}
    content = {**whole, **claims} if claims else {"aud": "bank-a"}
    forged = jwt.encode(content, key, algorithm=algorithm)
    with pytest.raises(TokenRejected):
        tokens.verify(forged, NOW)


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "\x00", "é" * 100, "[" * 2000])
def test_noise_is_refused(tokens: Tokens, text: str) -> None:
    """Whatever comes, the answer is the same error."""
    with pytest.raises(TokenRejected):
        tokens.verify(text, NOW)


def test_a_revoked_session_is_refused(tokens: Tokens) -> None:
    """All its tokens, also later ones; other sessions live on."""
    token, _ = tokens.issue(42, ROLES, SESSION, NOW)
    other, _ = tokens.issue(42, ROLES, bytes(16), NOW)
    tokens.revoke(SESSION, NOW + 1)
    later, _ = tokens.issue(42, ROLES, SESSION, NOW + 2)
    for revoked in (token, later):
        with pytest.raises(TokenRejected):
            tokens.verify(revoked, NOW + 3)
    tokens.verify(other, NOW + 3)


def test_a_revoked_customer_must_sign_in_again(tokens: Tokens) -> None:
    """What was issued before is over, what is issued afterwards is valid."""
    token, _ = tokens.issue(42, ROLES, SESSION, NOW)
    tokens.revoke_customer(42, NOW + 1)
    later, _ = tokens.issue(42, ROLES, SESSION, NOW + 2)
    with pytest.raises(TokenRejected):
        tokens.verify(token, NOW + 3)
    tokens.verify(later, NOW + 3)


def test_revocations_are_forgotten_once_no_token_can_live(tokens: Tokens) -> None:
    """What is kept is bounded by the life of a token."""
    tokens.revoke(SESSION, NOW)
    tokens.revoke(bytes(16), NOW + 901 * SECOND)
    assert list(tokens._revoked) == [bytes(16)]


def test_a_shorter_life_does_not_shorten_the_memory(tokens: Tokens) -> None:
    """Tokens issued for long stay revoked for long, though new ones live shortly."""
    token, _ = tokens.issue(42, ROLES, SESSION, NOW)
    tokens.set_valid(30)
    tokens.revoke(SESSION, NOW)
    tokens.revoke(bytes(16), NOW + 60 * SECOND)
    with pytest.raises(TokenRejected):
        tokens.verify(token, NOW + 61 * SECOND)
    assert tokens.issue(42, ROLES, SESSION, NOW)[1] <= NOW + 30 * SECOND


def test_too_many_revocations_refuse_rather_than_forget(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of too many makes every token from before it invalid, so none comes back to life."""
    monkeypatch.setattr(module, "REVOKED_MAX", 2)
    token, _ = tokens.issue(42, ROLES, SESSION, NOW)
    innocent, _ = tokens.issue(7, ROLES, b"i" * 16, NOW)
    tokens.revoke(SESSION, NOW + 1)
    young, _ = tokens.issue(7, ROLES, b"y" * 16, NOW + 2)
    tokens.revoke(b"b" * 16, NOW + 3)
    tokens.revoke(b"c" * 16, NOW + 4)
    assert len(tokens._revoked) == 2
    for refused in (token, innocent):
        with pytest.raises(TokenRejected):
            tokens.verify(refused, NOW + 5)
    tokens.verify(young, NOW + 5)
