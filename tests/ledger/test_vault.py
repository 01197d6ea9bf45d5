"""People's own keys: what is sealed opens for the right person only, and for nobody once they are erased."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from fortress.errors import DiskFull, KeyUnusable, StoreCorrupt
from fortress.ledger.vault import NONCE_SIZE_BYTES, Vault

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
