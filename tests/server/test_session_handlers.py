"""Signing in over real TLS and the sealed channel: right, wrong, unknown, locked out, resumed, ended."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from fortress.config import LoginSettings
from fortress.errors import (
    LockedOut,
    LoginFailed,
    MessageInvalid,
    NotSignedIn,
    Refused,
    Status,
    Throttled,
    TokenRejected,
    VersionUnsupported,
)
from fortress.protocol import schnorr
from fortress.protocol.administration import StatusRequest
from fortress.protocol.sessions import (
    ChangeKey,
    ChangeKeyBegin,
    EndSession,
    Hello,
    KeyMaterial,
    LoginBegin,
    LoginFinish,
    Logout,
    Register,
    Renew,
    Resume,
    Sessions,
    Whoami,
)
from tests.server.world import BANK, Client, connected, record, running, seed_of, until

OTHER_SEED = b"wrong" * 6 + b"xx"


async def test_hello_tells_bank_and_version() -> None:
    """The first message of both sides."""
    async with running() as world, connected(world) as client:
        answer = await client.request("status", StatusRequest())
        assert answer.bank == BANK


async def test_no_common_version_is_told() -> None:
    """With the version that would do."""
    async with running() as world:
        client = await Client(world, BANK).open()
        with pytest.raises(VersionUnsupported) as caught:
            await client.request("hello", Hello([200]))
        assert caught.value.facts == {"version": 1}
        await client.close()


async def test_hello_comes_first_and_once() -> None:
    """Before it nothing is answered, after it it is over."""
    async with running() as world:
        client = await Client(world, BANK).open()
        with pytest.raises(MessageInvalid, match="hello"):
            await client.request("status", StatusRequest())
        await client.hello()
        with pytest.raises(MessageInvalid, match="not possible"):
            await client.hello()
        await client.close()


async def test_the_right_key_signs_in() -> None:
    """The session is the customer's, with their roles and a token of the bank."""
    async with running() as world, connected(world) as client:
        answer = await client.login("tess")
        assert (answer.customer, answer.username, answer.roles) == (3, "tess", ["teller"])
        assert len(answer.session) == 16
        me = await client.request("whoami", Whoami())
        assert (me.username, me.state) == ("tess", "active")


async def test_wrong_and_unknown_are_told_in_the_same_words() -> None:
    """Nobody learns which usernames exist."""
    words = []
    async with running() as world:
        for username in ("alice", "nobody"):
            async with connected(world) as client:
                with pytest.raises(LoginFailed) as caught:
                    await client.login(username, seed=OTHER_SEED)
                words.append((caught.value.message, caught.value.facts))
        assert words[0] == words[1]
        assert world.statistics.auth_failures == {"wrong_proof": 2}


async def test_a_failed_login_leaves_the_connection_usable() -> None:
    """The next try may be right."""
    async with running() as world, connected(world) as client:
        with pytest.raises(LoginFailed):
            await client.login("alice", seed=OTHER_SEED)
        assert (await client.login("alice")).username == "alice"


async def test_an_answer_without_a_challenge_is_refused_and_not_counted() -> None:
    """There was nothing to guess."""
    async with running() as world, connected(world) as client:
        with pytest.raises(LoginFailed, match="no challenge"):
            await client.request("login_finish", LoginFinish(bytes(32)))
        assert world.statistics.auth_failures == {}


async def test_before_the_login_only_little_is_answered() -> None:
    """Everything else says that one must sign in; after the login there is no second one."""
    async with running() as world, connected(world) as client:
        with pytest.raises(NotSignedIn):
            await client.request("whoami", Whoami())
        await client.login("alice")
        with pytest.raises(MessageInvalid, match="not possible"):
            await client.request("login_begin", LoginBegin("alice", bytes(32)))


SETTINGS = LoginSettings(failures_before_delay=2, failures_before_lockout=4, delay_s_max=1)


@pytest.mark.parametrize("username", ["alice", "nobody"])
async def test_guessing_is_slowed_then_locked_with_its_end_told(username: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a username nobody has; the lock of a known one is passed on to the bank."""
    now = [1_700_000_000.0]
    monkeypatch.setattr("fortress.server.session_handlers.time.time", lambda: now[0])
    async with running(login=SETTINGS) as world, connected(world) as client:
        for _ in range(2):
            with pytest.raises(LoginFailed):
                await client.login(username, seed=OTHER_SEED)
        with pytest.raises(Throttled) as throttled:
            await client.login(username)
        assert throttled.value.facts == {"wait_ms": 1001}
        for _ in range(2):
            now[0] += 2
            with pytest.raises(LoginFailed):
                await client.login(username, seed=OTHER_SEED)
        end_us = int((now[0] + SETTINGS.lockout_s) * 1e6)
        with pytest.raises(LockedOut) as locked:
            await client.login(username)
        assert locked.value.facts == {"until_us": end_us}
        await until(lambda: world.bank.locked == [(username, end_us)], "the bank hears of it")
        assert world.statistics.auth_failures == {"wrong_proof": 4, "throttled": 1, "locked_out": 1}


async def test_many_connections_give_no_more_guesses() -> None:
    """Challenges taken out beforehand do not get around the wait."""
    async with running(login=replace(SETTINGS, delay_s_max=30)) as world:
        clients = [await Client(world, BANK).open() for _ in range(4)]
        for client in clients:
            await client.hello()
            await client.request("login_begin", LoginBegin("alice", schnorr.commit(secrets.token_bytes(64))[1]))
        outcomes = []
        for client in clients:
            with pytest.raises((LoginFailed, Throttled)) as caught:
                await client.request("login_finish", LoginFinish(b"\x05" + bytes(31)))
            outcomes.append(type(caught.value))
            await client.close()
        assert outcomes == [LoginFailed, LoginFailed, Throttled, Throttled]


async def test_a_locked_customer_hears_of_it_only_with_the_right_key() -> None:
    """Others hear what everybody hears."""
    async with running() as world, connected(world) as client:
        world.bank.people["alice"] = replace(world.bank.people["alice"], state="locked")
        with pytest.raises(LoginFailed):
            await client.login("alice", seed=OTHER_SEED)
        with pytest.raises(LockedOut):
            await client.login("alice")


async def test_a_key_changed_while_the_challenge_was_out_counts() -> None:
    """What is checked at the end is the record as it is then."""
    async with running() as world, connected(world) as client:
        secret = schnorr.secret_from_seed(seed_of("alice"))
        r, commitment = schnorr.commit(secrets.token_bytes(64))
        move = await client.request("login_begin", LoginBegin("alice", commitment))
        public = schnorr.public_key(secret)
        c = schnorr.challenge(client.core.handshake_hash, BANK, "alice", public, commitment, move.nonce)
        world.bank.people["alice"] = replace(world.bank.people["alice"], public=record("bob", 1).public)
        with pytest.raises(LoginFailed):
            await client.request("login_finish", LoginFinish(schnorr.prove(secret, r, c)))


async def test_a_session_goes_on_by_its_token() -> None:
    """On another connection, with the same id and the present roles."""
    async with running() as world:
        async with connected(world, "alice") as first:
            signed = await first.request("renew", Renew())
        world.bank.people["alice"] = replace(world.bank.people["alice"], roles=("auditor",))
        async with connected(world) as second:
            again = await second.request("resume", Resume(signed.token))
            assert (again.session, again.roles) == (signed.session, ["auditor"])


async def test_a_token_of_a_locked_customer_or_of_noise_is_refused() -> None:
    """And counted."""
    async with running() as world:
        async with connected(world, "alice") as first:
            token = (await first.request("renew", Renew())).token
        world.bank.people["alice"] = replace(world.bank.people["alice"], state="locked")
        async with connected(world) as second:
            for text in (token, "noise"):
                with pytest.raises(TokenRejected):
                    await second.request("resume", Resume(text))
        assert world.statistics.auth_failures == {"token": 2}


async def test_logging_out_ends_connection_and_token() -> None:
    """The bank writes it down, so that another node knows too."""
    async with running() as world:
        async with connected(world, "alice") as first:
            signed = await first.request("renew", Renew())
            await first.request("logout", Logout())
            await first.wait_end()
            assert first.core.peer_closed
        assert world.bank.ended == [(1, signed.session)]
        async with connected(world) as second:
            with pytest.raises(TokenRejected):
                await second.request("resume", Resume(signed.token))


async def test_sessions_are_listed_and_can_be_ended() -> None:
    """One's own, connected ones; another customer's are neither shown nor touched."""
    async with running() as world, connected(world, "alice") as first, connected(world, "alice") as second:
        async with connected(world, "bob") as bob:
            rows = (await first.request("sessions", Sessions())).sessions
            assert [(row.address, row.agent, row.current) for row in rows] == [
                ("127.0.0.1", "tests", True),
                ("127.0.0.1", "tests", False),
            ]
            [theirs] = (await bob.request("sessions", Sessions())).sessions
            await first.request("end_session", EndSession(theirs.session))
            await first.request("end_session", EndSession(rows[1].session))
            await second.wait_end()
            assert second.core.peer_closed
            assert len((await first.request("sessions", Sessions())).sessions) == 1
            await bob.request("whoami", Whoami())


def key_material(client: Client, username: str, seed: bytes) -> KeyMaterial:
    secret = schnorr.secret_from_seed(seed)
    r, commitment = schnorr.commit(secrets.token_bytes(64))
    public = schnorr.public_key(secret)
    c = schnorr.key_proof_challenge(client.core.handshake_hash, BANK, username, public, commitment)
    proof = schnorr.prove(secret, r, c)
    return KeyMaterial(b"s" * 16, 65536, 3, 4, public, bytes(32), commitment, proof)


async def change_key(client: Client, old: bytes, new: bytes) -> None:
    move = await client.request("change_key_begin", ChangeKeyBegin())
    secret = schnorr.secret_from_seed(old)
    r, commitment = schnorr.commit(secrets.token_bytes(64))
    public = schnorr.public_key(secret)
    c = schnorr.challenge(client.core.handshake_hash, BANK, "alice", public, commitment, move.nonce)
    await client.request(
        "change_key", ChangeKey(key_material(client, "alice", new), commitment, schnorr.prove(secret, r, c))
    )


async def test_a_changed_key_ends_the_other_sessions() -> None:
    """Whoever had the old password is out; who changed it stays."""
    async with running() as world, connected(world, "alice") as first, connected(world, "alice") as second:
        token = (await second.request("renew", Renew())).token
        await change_key(first, seed_of("alice"), b"n" * 32)
        await second.wait_end()
        await first.request("whoami", Whoami())
        async with connected(world) as third:
            with pytest.raises(TokenRejected):
                await third.request("resume", Resume(token))
            assert (await third.login("alice", seed=b"n" * 32)).username == "alice"


async def test_a_key_is_not_changed_without_the_old_one() -> None:
    """A session left open is not enough."""
    async with running() as world, connected(world, "alice") as client:
        with pytest.raises(LoginFailed):
            await change_key(client, OTHER_SEED, b"n" * 32)
        assert world.bank.people["alice"].public == record("alice", 1).public


async def test_an_invitation_makes_a_customer() -> None:
    """Who proves their new key is signed in at once."""
    async with running() as world, connected(world) as client:
        key = key_material(client, "carol", b"c" * 32)
        answer = await client.request("register", Register("invitation", "carol", key))
        assert (answer.username, answer.customer) == ("carol", 99)


async def test_guessing_invitations_is_slowed() -> None:
    """Like guessing passwords; a key without its proof does not even reach the bank."""
    async with running(login=SETTINGS) as world, connected(world) as client:
        with pytest.raises(Refused) as unproven:
            key = key_material(client, "mallory", b"c" * 32)
            await client.request("register", Register("invitation", "carol", key))
        assert unproven.value.status is Status.key_proof_invalid
        key = key_material(client, "carol", b"c" * 32)
        for _ in range(2):
            with pytest.raises(Refused) as refused:
                await client.request("register", Register("guessed!", "carol", key))
            assert refused.value.status is Status.invitation_invalid
        with pytest.raises(Throttled):
            await client.request("register", Register("invitation", "carol", key))


async def test_a_wrong_code_from_a_shared_path_locks_out_nobody_else() -> None:
    """Behind pages, gateways or load balancers many people have one address, so there each code counts by itself."""
    settings = LoginSettings(failures_before_delay=1, failures_before_lockout=2)
    async with running(login=settings, paths="127.0.0.1") as world, connected(world) as client:
        key = key_material(client, "carol", b"c" * 32)
        for code in ("guessed1", "guessed2", "guessed3"):
            with pytest.raises(Refused):
                await client.request("register", Register(code, "carol", key))
        with pytest.raises(Throttled):
            await client.request("register", Register("guessed3", "carol", key))
        assert (await client.request("register", Register("invitation", "carol", key))).username == "carol"


async def test_a_customer_who_is_gone_is_told_to_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session may be a moment older than the erasure."""

    async def nobody(self: object, customer: int) -> None:
        return None

    async with running() as world, connected(world, "alice") as client:
        monkeypatch.setattr(type(world.bank), "find_customer", nobody)
        with pytest.raises(NotSignedIn):
            await client.request("whoami", Whoami())


async def test_two_logins_of_one_session_make_one() -> None:
    """The second of two that run at once is refused."""
    async with running() as world, connected(world) as client:
        async with connected(world, "alice") as other:
            token = (await other.request("renew", Renew())).token
        for _ in range(2):
            client.send("resume", Resume(token))
        answers = [await client.receive(), await client.receive()]
        assert [envelope.code for envelope in answers] == [0, MessageInvalid.code]
