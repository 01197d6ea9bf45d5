"""Proofs that anybody can check: an entry is under a root, a history continues another, a head is signed.

A receipt is worth something only if no server is needed to check it, so this is written from RFC 9162 alone and shares
no code with the tree that makes the proofs; a test lets the two check each other. Nothing here raises on values of the
right types, however wrong they are: a proof holds or it does not.

A head says how long a bank's journal is and what its Merkle root is. What is signed, by Ed25519, is the msgpack array
``[b"fortress head v1", bank, epoch, tree size, root, time]``; the first element keeps the signature from meaning
anything in another protocol.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HEAD_LABEL: Final = b"fortress head v1"
HASH_SIZE_BYTES: Final = 32
TREE_SIZE_MAX: Final = 2**63 - 1
PATH_LENGTH_MAX: Final = 65
"""More hashes than any proof in a tree of `TREE_SIZE_MAX` leaves has."""
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

_encode = msgspec.msgpack.Encoder().encode


def leaf_hash(entry: bytes) -> bytes:
    """Hash an entry's canonical bytes into its leaf (RFC 9162 2.1.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def head_statement(*, bank: str, epoch: int, tree_size: int, root: bytes, time_us: int) -> bytes:
    """Give the bytes that a node signs about its journal.

    Args:
        bank: the bank's id.
        epoch: the term in which the head was made.
        tree_size: number of entries.
        root: Merkle root over them, 32 bytes.
        time_us: when it was made, microseconds since 1970 UTC.
    """
    return _encode((HEAD_LABEL, bank, epoch, tree_size, root, time_us))


def verify_head(statement: bytes, *, signature: bytes, key: bytes) -> bool:
    """Tell whether ``signature`` is that of the Ed25519 ``key`` over a :func:`head_statement`."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, statement)
    except (InvalidSignature, ValueError):
        return False
    return True


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Tell whether ``path`` proves that ``leaf`` is number ``index``, from 0, under ``root`` (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size <= TREE_SIZE_MAX or not _are_hashes([leaf, root], path):
        return False
    node, last = index, size - 1
    result = leaf
    for neighbour in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            result = _node_hash(neighbour, result)
            node, last = _above_left_edges(node, last)
        else:
            result = _node_hash(result, neighbour)
        node >>= 1
        last >>= 1
    return last == 0 and result == root


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Tell whether ``path`` proves that the new tree begins with the old one (RFC 9162 2.1.4.2).

    Every tree begins with the empty one, and equal sizes need equal roots; both have an empty path.
    """
    if not 0 <= old_size <= new_size <= TREE_SIZE_MAX or not _are_hashes([old_root, new_root], path):
        return False
    if old_size in (0, new_size):
        return not path and old_root == (new_root if old_size == new_size else EMPTY_ROOT)
    # the root of an old tree that is complete (a power of two) is not repeated in the path
    steps = [old_root, *path] if old_size & (old_size - 1) == 0 else list(path)
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    return bool(steps) and _fold_both(node, last, steps) == (old_root, new_root)


def _fold_both(node: int, last: int, steps: list[bytes]) -> tuple[bytes, bytes] | None:
    """Fold a path into the old root and the new one; None when it is too long or too short for the sizes."""
    old = new = steps[0]
    for neighbour in steps[1:]:
        if last == 0:
            return None
        if node & 1 or node == last:
            old, new = _node_hash(neighbour, old), _node_hash(neighbour, new)
            node, last = _above_left_edges(node, last)
        else:
            new = _node_hash(new, neighbour)
        node >>= 1
        last >>= 1
    return (old, new) if last == 0 else None


def _above_left_edges(node: int, last: int) -> tuple[int, int]:
    """Climb past the heights at which a right edge stands alone: they add no hash to a path."""
    while node and not node & 1:
        node >>= 1
        last >>= 1
    return node, last


def _are_hashes(ends: list[bytes], path: Sequence[bytes]) -> bool:
    return len(path) <= PATH_LENGTH_MAX and all(len(item) == HASH_SIZE_BYTES for item in (*ends, *path))


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
