"""Tests of the proofs that need no server, against a tree written straight from the definitions of RFC 9162 2.1."""

from __future__ import annotations

import hashlib

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fortress.protocol import proofs
from fortress.protocol.proofs import verify_consistency, verify_head, verify_inclusion

SIZE_MAX = 40
ENTRIES = [number.to_bytes(2, "big") for number in range(SIZE_MAX)]
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()


def split(size: int) -> int:
    return 1 << (size - 1).bit_length() - 1


def root(entries: list[bytes]) -> bytes:
    """MTH of RFC 9162 2.1.1."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = split(len(entries))
    return hashlib.sha256(b"\x01" + root(entries[:k]) + root(entries[k:])).digest()


def inclusion(index: int, entries: list[bytes]) -> list[bytes]:
    """PATH of RFC 9162 2.1.3.1."""
    if len(entries) == 1:
        return []
    k = split(len(entries))
    if index < k:
        return [*inclusion(index, entries[:k]), root(entries[k:])]
    return [*inclusion(index - k, entries[k:]), root(entries[:k])]


def consistency(old: int, entries: list[bytes], *, is_known: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 9162 2.1.4.1."""
    if old == len(entries):
        return [] if is_known else [root(entries)]
    k = split(len(entries))
    if old <= k:
        return [*consistency(old, entries[:k], is_known=is_known), root(entries[k:])]
    return [*consistency(old - k, entries[k:], is_known=False), root(entries[:k])]


def test_the_reference_agrees_with_known_roots() -> None:
    """The roots of the empty tree and of one empty entry, as in the test vectors of certificate-transparency-go."""
    assert root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert root([b""]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert proofs.leaf_hash(b"") == root([b""])
    assert root([]) == proofs.EMPTY_ROOT


@pytest.mark.parametrize("size", range(1, SIZE_MAX + 1))
def test_every_entry_of_every_tree_can_be_proven(size: int) -> None:
    """The right path proves an entry; at another place, for another entry or cut it proves nothing."""
    entries = ENTRIES[:size]
    top = root(entries)
    for index, entry in enumerate(entries):
        path, leaf = inclusion(index, entries), proofs.leaf_hash(entry)
        assert verify_inclusion(leaf, index, size, path, top)
        assert not verify_inclusion(leaf, (index + 1) % size, size, path, top) or size == 1
        assert not verify_inclusion(proofs.leaf_hash(b"other"), index, size, path, top)
        assert not verify_inclusion(leaf, index, size, [*path, leaf], top)
        assert not path or not verify_inclusion(leaf, index, size, path[:-1], top)


@pytest.mark.parametrize("size", range(SIZE_MAX + 1))
def test_every_tree_continues_every_smaller_one(size: int) -> None:
    """The right path proves it; with another old root, cut or prolonged it proves nothing."""
    top = root(ENTRIES[:size])
    for old in range(size + 1):
        path = consistency(old, ENTRIES[:size]) if old else []
        before = root(ENTRIES[:old])
        assert verify_consistency(old, before, size, top, path)
        assert not verify_consistency(old, root([b"x"]), size, top, path)
        assert not verify_consistency(old, before, size, root([b"x"]), path) or old == 0
        assert not verify_consistency(old, before, size, top, [*path, before])
        assert not path or not verify_consistency(old, before, size, top, path[:-1])


def test_another_history_of_the_same_length_is_seen() -> None:
    """Changing one entry of the past breaks every later proof."""
    changed = [*ENTRIES[:3], b"changed", *ENTRIES[4:20]]
    path = consistency(10, changed)
    assert not verify_consistency(10, root(ENTRIES[:10]), 20, root(changed), path)


@pytest.mark.parametrize(
    ("index", "size", "path"),
    [(-1, 4, []), (4, 4, []), (0, 0, []), (0, 2**63, []), (0, 2, [b"short"]), (0, 2, [bytes(32)] * 66)],
)
def test_impossible_places_and_paths_prove_nothing(index: int, size: int, path: list[bytes]) -> None:
    """No value of the right type raises."""
    assert not verify_inclusion(bytes(32), index, size, path, bytes(32))
    assert not verify_consistency(index, bytes(32), size, b"\x01" * 32, path)


def test_hashes_of_the_wrong_length_prove_nothing() -> None:
    """A leaf or a root that is no hash is refused."""
    assert not verify_inclusion(b"", 0, 1, [], b"")
    assert not verify_consistency(1, b"", 1, b"", [])
    assert not verify_consistency(3, bytes(32), 5, bytes(32), [])


@given(st.integers(0, 40), st.integers(0, 40), st.lists(st.binary(min_size=32, max_size=32), max_size=8))
def test_random_paths_prove_nothing(old: int, size: int, path: list[bytes]) -> None:
    """A path out of thin air leads to no root."""
    nobody = hashlib.sha256(b"nobody's root").digest()
    assert not verify_inclusion(bytes(32), old, size, path, nobody)
    assert not verify_consistency(old, nobody, size, bytes(32), path)


def statement(bank: str = "a", epoch: int = 3, tree_size: int = 5, root: bytes = bytes(32), time_us: int = 7) -> bytes:
    return proofs.head_statement(bank=bank, epoch=epoch, tree_size=tree_size, root=root, time_us=time_us)


def test_a_head_statement_is_a_labelled_array() -> None:
    """The bytes that are signed can be made again with any msgpack library."""
    assert statement() == msgpack.packb([b"fortress head v1", "a", 3, 5, bytes(32), 7])


@pytest.mark.parametrize(
    "changed",
    [
        statement(bank="b"),
        statement(epoch=4),
        statement(tree_size=6),
        statement(root=b"\x01" + bytes(31)),
        statement(time_us=8),
    ],
)
def test_a_head_is_good_as_it_was_signed_only(changed: bytes) -> None:
    """A change of any field breaks the signature."""
    signature = KEY.sign(statement())
    assert verify_head(statement(), signature=signature, key=PUBLIC)
    assert not verify_head(changed, signature=signature, key=PUBLIC)


@pytest.mark.parametrize(("signature", "key"), [(bytes(64), PUBLIC), (b"", PUBLIC), (bytes(64), b"short")])
def test_what_is_no_signature_or_no_key_proves_nothing(signature: bytes, key: bytes) -> None:
    """No bytes raise."""
    assert not verify_head(statement(), signature=signature, key=key)
