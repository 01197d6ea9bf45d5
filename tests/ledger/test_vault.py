"""People's own keys: what is sealed opens for the right person only, and for nobody once they are erased."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from fortress.errors import DiskFull, KeyUnusable, StoreCorrupt
from fortress.ledger.vault import BUCKET_DIGEST_SIZE_BYTES, BUCKETS, NONCE_SIZE_BYTES, Vault

KEY = b"v" * 32
ALICE, BOB = b"alice".ljust(16), b"bob".ljust(16)


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    numbers = count(1)
    made = Vault(tmp_path / "vault.db", KEY, entropy=lambda size: next(numbers).to_bytes(size, "big"))
    yield made
    made.close()


def test_personal_data_opens_for_the_same_person(vault: Vault) -> None:
    """Sealed anew each time, under a key that stays."""
    first, second = vault.seal_person(ALICE, b"mail"), vault.seal_person(ALICE, b"mail")
    assert first != second and b"mail" not in first
    assert vault.open_person(ALICE, first) == vault.open_person(ALICE, second) == b"mail"


def test_personal_data_of_another_does_not_open(vault: Vault) -> None:
    """Each person has a key of their own."""
    sealed = vault.seal_person(ALICE, b"mail")
    assert vault.open_person(BOB, sealed) is None
    vault.seal_person(BOB, b"other")
    with pytest.raises(StoreCorrupt, match="does not open"):
        vault.open_person(BOB, sealed)


def test_every_changed_byte_is_found(vault: Vault) -> None:
    """Nonce, ciphertext and tag; a cut one as well."""
    sealed = vault.seal_person(ALICE, b"mail")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(StoreCorrupt):
            vault.open_person(ALICE, bytes(changed))
    for length in (0, NONCE_SIZE_BYTES, len(sealed) - 1):
        with pytest.raises(StoreCorrupt):
            vault.open_person(ALICE, sealed[:length])


def test_an_erased_person_s_data_opens_for_nobody(vault: Vault, tmp_path: Path) -> None:
    """The key is gone from the file and from its write-ahead file; erasing again changes nothing."""
    sealed = vault.seal_person(ALICE, b"mail")
    other = vault.seal_person(BOB, b"other")
    vault.erase_person(ALICE)
    vault.erase_person(ALICE)
    assert vault.open_person(ALICE, sealed) is None
    assert vault.open_person(BOB, other) == b"other"
    assert (tmp_path / "vault.db-wal").stat().st_size == 0
    vault.seal_person(ALICE, b"new")
    with pytest.raises(StoreCorrupt):
        vault.open_person(ALICE, sealed)


def test_login_keys_open_for_the_same_handle(vault: Vault) -> None:
    """Under the bank's own key; not for another person, and not as personal data."""
    sealed = vault.seal_login_key(ALICE, b"point")
    assert vault.open_login_key(ALICE, sealed) == b"point"
    with pytest.raises(StoreCorrupt):
        vault.open_login_key(BOB, sealed)


def test_what_was_sealed_opens_after_a_restart(tmp_path: Path) -> None:
    """The keys are on the disk before anything is sealed under them."""
    vault = Vault(tmp_path / "vault.db", KEY)
    sealed, login = vault.seal_person(ALICE, b"mail"), vault.seal_login_key(ALICE, b"point")
    vault.close()
    vault = Vault(tmp_path / "vault.db", KEY)
    assert (vault.open_person(ALICE, sealed), vault.open_login_key(ALICE, login)) == (b"mail", b"point")
    vault.close()


def test_another_key_does_not_open_the_vault(vault: Vault, tmp_path: Path) -> None:
    """And is told as that."""
    with pytest.raises(KeyUnusable, match=r"vault\.db"):
        Vault(tmp_path / "vault.db", b"o" * 32)


def test_several_threads_may_use_one_vault(vault: Vault) -> None:
    """One waits for the other; none is told that the file is broken."""
    sealed = vault.seal_person(ALICE, b"mail")
    failures: list[Exception] = []

    def use(number: int) -> None:
        try:
            for i in range(300):
                assert vault.open_person(ALICE, sealed) == b"mail"
                if i % 30 == 0:
                    vault.seal_person(bytes([number, i % 256]) * 8, b"x")
        except (StoreCorrupt, AssertionError) as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_no_space_for_a_key_is_a_full_disk(vault: Vault) -> None:
    """Nothing is sealed under a key that is not on the disk."""
    pages = vault._db.execute("PRAGMA page_count").fetchall()[0][0]
    vault._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DiskFull):
        for number in range(1_000):
            vault.seal_person(number.to_bytes(16, "big"), b"x")


# --- Two nodes -------------------------------------------------------------------------------------------------------
def keys_of(vault: Vault) -> dict[bytes, bytes]:
    return {handle: key for number in range(BUCKETS) for handle, key in vault.bucket(number)}


def differing(one: Vault, other: Vault) -> list[int]:
    """The buckets whose digests differ, as two nodes find them."""
    size = BUCKET_DIGEST_SIZE_BYTES
    ours, theirs = one.digests(), other.digests()
    places = [slice(number * size, number * size + size) for number in range(BUCKETS)]
    return [number for number, place in enumerate(places) if ours[place] != theirs[place]]


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Vault]:
    made = Vault(tmp_path / "peer.db", KEY)
    yield made
    made.close()


def test_what_one_node_makes_or_erases_the_other_one_takes(vault: Vault, peer: Vault, tmp_path: Path) -> None:
    """Each change is told once, durable by then, and what was sealed at one node opens at the other."""
    told: list[tuple[bytes, bytes | None]] = []

    def on_change(handle: bytes, key: bytes | None) -> None:
        on_disk = Vault(tmp_path / "vault.db", KEY)
        assert keys_of(on_disk).get(handle) == key
        on_disk.close()
        told.append((handle, key))
        peer.take(handle, key)

    vault.on_change = on_change
    sealed = vault.seal_person(ALICE, b"mail")
    vault.seal_person(ALICE, b"again")
    vault.seal_person(BOB, b"other")
    assert peer.open_person(ALICE, sealed) == b"mail"
    vault.erase_person(ALICE)
    assert [handle for handle, _ in told] == [ALICE, BOB, ALICE] and told[-1][1] is None
    assert peer.open_person(ALICE, sealed) is None
    assert keys_of(peer) == keys_of(vault) and peer.digests() == vault.digests()
    assert (tmp_path / "peer.db-wal").stat().st_size == 0


def test_what_was_taken_is_not_told_again(vault: Vault) -> None:
    """Else two nodes would tell each other for ever."""
    told: list[bytes] = []
    vault.on_change = lambda handle, key: told.append(handle)
    vault.take(ALICE, b"k" * 32)
    vault.take_all([(BOB, b"b" * 32), (ALICE, None)])
    vault.replace_bucket(BOB[0], [])
    assert told == [] and keys_of(vault) == {}


def test_a_key_taken_takes_the_place_of_another(vault: Vault) -> None:
    """The primary's counts: what was sealed under a key that was never committed is in no entry."""
    sealed = vault.seal_person(ALICE, b"mail")
    vault.take(ALICE, b"k" * 32)
    vault.take(ALICE, b"k" * 32)
    assert keys_of(vault) == {ALICE: b"k" * 32}
    with pytest.raises(StoreCorrupt):
        vault.open_person(ALICE, sealed)


def test_only_differing_buckets_differ(vault: Vault, peer: Vault) -> None:
    """Every first byte is a bucket; a key missing, one too many and another one are each found, and mended."""
    everybody = [(bytes([number]) * 16, bytes([number]) * 32) for number in range(BUCKETS)]
    for each in (vault, peer):
        each.take_all(everybody)
    assert vault.digests() == peer.digests() and len(vault.digests()) == BUCKETS * BUCKET_DIGEST_SIZE_BYTES
    peer.erase_person(bytes(16))
    peer.take(b"\x07" + bytes(15), b"x" * 32)
    peer.take(b"\xff" * 16, b"y" * 32)
    peer.take(b"\xff" * 64, b"z" * 32)
    assert differing(vault, peer) == [0, 7, 255]
    assert [len(peer.bucket(number)) for number in (0, 6, 7, 255)] == [0, 1, 2, 2]
    for number in differing(vault, peer):
        peer.replace_bucket(number, vault.bucket(number))
    assert vault.digests() == peer.digests() and keys_of(peer) == dict(everybody)


def test_a_bucket_takes_no_other_s_keys(vault: Vault) -> None:
    """And is then as it was."""
    vault.take(ALICE, b"k" * 32)
    with pytest.raises(ValueError, match="not of bucket"):
        vault.replace_bucket(ALICE[0], [(BOB, b"b" * 32)])
    assert keys_of(vault) == {ALICE: b"k" * 32}


def test_changes_are_one_step(vault: Vault) -> None:
    """When one of them cannot be written, none is, and the digests still tell what is there."""
    before = vault.digests()
    pages = vault._db.execute("PRAGMA page_count").fetchall()[0][0]
    vault._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DiskFull):
        vault.take_all([(number.to_bytes(2, "big") * 8, bytes(32)) for number in range(1_000)])
    assert keys_of(vault) == {} and vault.digests() == before


def test_changes_are_told_in_the_order_they_were_made(vault: Vault, peer: Vault) -> None:
    """Several threads make and erase the same key: the other node ends up with what this one has."""
    vault.on_change = peer.take

    def change() -> None:
        for _ in range(40):
            vault.seal_person(ALICE, b"mail")
            vault.erase_person(ALICE)
            vault.seal_person(BOB, b"mail")

    threads = [threading.Thread(target=change) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert keys_of(vault) == keys_of(peer) and peer.digests() == vault.digests()
