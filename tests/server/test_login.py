"""The three moves at the bank: right proofs pass once, on their channel, and unknown usernames look like known ones."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest

from fortress.config import LoginSettings
from fortress.errors import LockedOut, LoginFailed, Refused, Status
from fortress.protocol import schnorr
from fortress.protocol.sessions import KeyMaterial
from fortress.server.login import CHALLENGE_VALID_S, Login, LoginDesk, LoginRecord, check_lock

BANK = "bank-a"
HASH, OTHER_HASH = b"\x11" * 32, b"\x22" * 32
SECRET = schnorr.secret_from_seed(b"s" * 32)
ENTROPY = bytes(range(64))
ALICE = LoginRecord(
    customer=7,
    username="alice",
    roles=("customer",),
    state="active",
    locked_until_us=0,
    salt=b"salt" * 4,
    memory_kib=65536,
    iterations=3,
    lanes=4,
    public=schnorr.public_key(SECRET),
    signing=bytes(32),
    created_us=1,
)


@pytest.fixture
def desk() -> LoginDesk:
    return LoginDesk(BANK, b"h" * 32, LoginSettings())


@pytest.fixture
def login(desk: LoginDesk) -> Login:
    return Login(desk)


def prove(
    login: Login,
    record: LoginRecord | None = ALICE,
    *,
    secret: bytes = SECRET,
    channel: bytes = HASH,
    public: bytes = b"",
) -> bytes:
    """Play the client: begin, and give the proof for the challenge."""
    r, commitment = schnorr.commit(ENTROPY)
    move = login.begin(record, "alice", commitment, 0.0, handle=b"h")
    c = schnorr.challenge(channel, BANK, "alice", public or schnorr.public_key(secret), commitment, move.nonce)
    return schnorr.prove(secret, r, c)


def test_the_right_proof_signs_in(login: Login) -> None:
    """Who knows x is who they say."""
    assert login.finish(prove(login), HASH, 1.0) is ALICE


def test_a_proof_is_good_once(login: Login) -> None:
    """The challenge is gone after the first try, so a replay finds none."""
    proof = prove(login)
    login.finish(proof, HASH, 1.0)
    with pytest.raises(LoginFailed, match="no challenge"):
        login.finish(proof, HASH, 1.0)


def test_a_proof_of_an_earlier_challenge_is_worth_nothing(login: Login) -> None:
    """Each login has a nonce of its own."""
    proof = prove(login)
    prove(login)
    with pytest.raises(LoginFailed):
        login.finish(proof, HASH, 1.0)


def test_a_wrong_try_uses_the_challenge_up(login: Login) -> None:
    """There is no second guess at one challenge."""
    proof = prove(login)
    with pytest.raises(LoginFailed):
        login.finish(bytes(32), HASH, 1.0)
    with pytest.raises(LoginFailed, match="no challenge"):
        login.finish(proof, HASH, 1.0)


def test_another_secret_does_not_sign_in(login: Login) -> None:
    """A wrong password makes another x."""
    proof = prove(login, secret=schnorr.secret_from_seed(b"t" * 32), public=ALICE.public)
    with pytest.raises(LoginFailed):
        login.finish(proof, HASH, 1.0)


def test_a_proof_relayed_to_another_channel_fails(login: Login) -> None:
    """A man in the middle has another handshake hash."""
    proof = prove(login, channel=OTHER_HASH)
    with pytest.raises(LoginFailed):
        login.finish(proof, HASH, 1.0)


def test_forging_with_the_public_key_alone_fails(login: Login) -> None:
    """Choosing s and c first and R = sB - cP from them needs c before R, which the hash does not allow."""
    move = login.begin(ALICE, "alice", schnorr.commit(ENTROPY)[1], 0.0, handle=b"h")
    s = schnorr.secret_from_seed(move.nonce)
    with pytest.raises(LoginFailed):
        login.finish(s, HASH, 1.0)


@pytest.mark.parametrize("commitment", [schnorr.IDENTITY, bytes(32), b"\xff" * 32, (2).to_bytes(32, "little")])
@pytest.mark.parametrize("proof", [bytes(32), b"\xff" * 32, schnorr.GROUP_ORDER.to_bytes(32, "little")])
def test_degenerate_values_are_refused(login: Login, commitment: bytes, proof: bytes) -> None:
    """The identity, points of small order, what is no point, zero and what is no scalar."""
    login.begin(ALICE, "alice", commitment, 0.0, handle=b"h")
    with pytest.raises(LoginFailed):
        login.finish(proof, HASH, 1.0)


def test_a_challenge_grows_old(login: Login) -> None:
    """After a minute even the right proof is refused."""
    proof = prove(login)
    with pytest.raises(LoginFailed):
        login.finish(proof, HASH, CHALLENGE_VALID_S + 1)


def test_an_unknown_username_gets_a_salt_that_stays(desk: LoginDesk) -> None:
    """The same salt each time, another for each username, the usual parameters, a fresh nonce."""
    commitment = schnorr.commit(ENTROPY)[1]
    first, again, other = (
        Login(desk).begin(None, name, commitment, 0.0, handle=b"h") for name in ("nobody", "nobody", "nemo")
    )
    assert first.salt == again.salt != other.salt
    assert len(first.salt) == len(ALICE.salt)
    assert (first.memory_kib, first.iterations, first.lanes) == (65536, 3, 4)
    assert first.nonce != again.nonce


@pytest.mark.parametrize("record", [None, replace(ALICE, state="erased", public=b"")])
def test_nobody_signs_in_under_an_unknown_or_erased_username(login: Login, record: LoginRecord | None) -> None:
    """Not with any secret; the words are those of a wrong password."""
    with pytest.raises(LoginFailed) as unknown:
        login.finish(prove(login, record), HASH, 1.0)
    with pytest.raises(LoginFailed) as wrong:
        login.finish(prove(login, secret=schnorr.secret_from_seed(b"t" * 32)), HASH, 1.0)
    assert (unknown.value.message, unknown.value.facts) == (wrong.value.message, wrong.value.facts)


def test_an_unknown_username_costs_the_same_work(desk: LoginDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof is verified in both cases, against a valid point: equal work rather than equal luck on a clock."""
    verified: list[bytes] = []
    real = schnorr.verify

    def spy(public: bytes, commitment: bytes, c: bytes, s: bytes) -> bool:
        verified.append(public)
        return real(public, commitment, c, s)

    monkeypatch.setattr(schnorr, "verify", spy)
    for record in (ALICE, None):
        login = Login(desk)
        with pytest.raises(LoginFailed):
            login.finish(prove(login, record, secret=schnorr.secret_from_seed(b"t" * 32)), HASH, 1.0)
    assert verified == [ALICE.public, desk.unknown_public]
    assert schnorr.is_valid_public_key(desk.unknown_public)


def test_refusals_take_the_same_steps(desk: LoginDesk) -> None:
    """Every function that is called, in Python or C, is called as often for an unknown username as for a known one."""

    def steps(record: LoginRecord | None) -> Counter[str]:
        login = Login(desk)
        login.begin(record, "alice", schnorr.commit(ENTROPY)[1], 0.0, handle=b"h")
        called: Counter[str] = Counter()

        def note(frame: FrameType, event: str, what: Any) -> None:
            if event in ("call", "c_call"):
                called[frame.f_code.co_qualname if event == "call" else what.__qualname__] += 1

        sys.setprofile(note)
        try:
            login.finish(b"\x05" + bytes(31), HASH, 1.0)
        except LoginFailed:
            pass
        finally:
            sys.setprofile(None)
        return called

    assert steps(ALICE) == steps(None)
    assert steps(ALICE)["verify"] == 1


def test_handles_do_not_show_usernames(desk: LoginDesk) -> None:
    """One for each username, another at another bank's key."""
    other = LoginDesk(BANK, b"i" * 32, LoginSettings())
    assert len({desk.handle_of("alice"), desk.handle_of("bob"), other.handle_of("alice")}) == 3
    assert b"alice" not in desk.handle_of("alice")


def test_a_change_of_key_brings_its_commitment_with_the_proof(login: Login) -> None:
    """There the nonce comes first; the proof is over both."""
    move = login.begin(ALICE, "alice", b"", 0.0, handle=b"h")
    assert (login.username, login.handle) == ("alice", b"h")
    r, commitment = schnorr.commit(ENTROPY)
    c = schnorr.challenge(HASH, BANK, "alice", ALICE.public, commitment, move.nonce)
    assert login.finish(schnorr.prove(SECRET, r, c), HASH, 1.0, commitment) is ALICE
    assert (login.username, login.handle) == ("", b"")


def key_material(*, username: str = "alice", channel: bytes = HASH, public: bytes = ALICE.public) -> KeyMaterial:
    r, commitment = schnorr.commit(ENTROPY)
    c = schnorr.key_proof_challenge(channel, BANK, username, public, commitment)
    return KeyMaterial(
        salt=b"salt" * 4,
        memory_kib=65536,
        iterations=3,
        lanes=4,
        public=public,
        signing=bytes(32),
        commitment=commitment,
        proof=schnorr.prove(SECRET, r, c),
    )


def test_a_new_key_is_proven(desk: LoginDesk) -> None:
    """Its owner's proof on this channel is accepted."""
    desk.check_key(key_material(), "alice", HASH)


@pytest.mark.parametrize(
    "key", [key_material(username="bob"), key_material(channel=OTHER_HASH), key_material(public=schnorr.IDENTITY)]
)
def test_a_key_that_is_not_proven_is_refused(desk: LoginDesk, key: KeyMaterial) -> None:
    """Somebody else's proof, one made on another channel, a point that is no key."""
    with pytest.raises(Refused) as caught:
        desk.check_key(key, "alice", HASH)
    assert caught.value.status is Status.key_proof_invalid


@pytest.mark.parametrize(
    ("state", "until_us", "locked"),
    [("active", 0, False), ("active", 99, False), ("active", 101, True), ("locked", 0, True), ("locked", 99, False)],
)
def test_a_lock_ends_when_it_says(state: str, until_us: int, locked: bool) -> None:
    """By time, or never when no end was given."""
    record = replace(ALICE, state=state, locked_until_us=until_us)
    if locked:
        with pytest.raises(LockedOut) as caught:
            check_lock(record, 100)
        assert caught.value.facts == {"until_us": until_us}
    else:
        check_lock(record, 100)


def test_a_record_shows_no_key() -> None:
    """What lands in a log by accident holds no verifier."""
    assert "salt" not in repr(ALICE) and "public" not in repr(ALICE)
