"""The tree against the plain recursive definitions of RFC 9162, and against published roots and proofs."""

from __future__ import annotations

import hashlib
import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fortress.errors import IntegrityFailed
from fortress.ledger import merkle
from fortress.ledger.merkle import (
    EMPTY_ROOT,
    Tile,
    Tree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    leaf_hashes,
    node_hash,
    tile_root,
    verify_consistency,
    verify_inclusion,
)

# The eight leaves, roots and proofs of Google's Certificate Transparency reference code (merkle_tree_test.cc), which
# the later implementations of RFC 6962 and RFC 9162 share as their vectors.
KNOWN_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
KNOWN_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
KNOWN_INCLUSION_OF_FIRST_IN_EIGHT = [
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
]
KNOWN_CONSISTENCY_SIX_TO_EIGHT = [
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
]

LEAVES = [leaf_hash(b"entry %d" % i) for i in range(3000)]


def largest_power_below(count: int) -> int:
    k = 1
    while k * 2 < count:
        k *= 2
    return k


@cache
def naive_root(low: int, high: int) -> bytes:
    """MTH of RFC 9162 2.1.1, word for word, over LEAVES."""
    if high - low == 1:
        return LEAVES[low]
    k = largest_power_below(high - low)
    return hashlib.sha256(b"\x01" + naive_root(low, low + k) + naive_root(low + k, high)).digest()


def naive_path(index: int, low: int, high: int) -> list[bytes]:
    """PATH of RFC 9162 2.1.3.1."""
    if high - low == 1:
        return []
    k = largest_power_below(high - low)
    if index < low + k:
        return [*naive_path(index, low, low + k), naive_root(low + k, high)]
    return [*naive_path(index, low + k, high), naive_root(low, low + k)]


def naive_subproof(old: int, low: int, high: int, whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 9162 2.1.4.1."""
    if old == high:
        return [] if whole else [naive_root(low, high)]
    k = largest_power_below(high - low)
    if old <= low + k:
        return [*naive_subproof(old, low, low + k, whole), naive_root(low + k, high)]
    return [*naive_subproof(old, low + k, high, False), naive_root(low, low + k)]


class Shelf:
    """The store of a test: tiles by level and index."""

    def __init__(self) -> None:
        self.blobs: dict[tuple[int, int], bytes] = {}

    def put(self, tiles: list[Tile]) -> None:
        for tile in tiles:
            self.blobs[tile.level, tile.index] = tile.blob

    def read(self, level: int, index: int) -> bytes:
        return self.blobs.get((level, index), b"")


def grown(size: int, *, batch: int = 97) -> tuple[Tree, Shelf]:
    """A tree over the first leaves, with its full tiles on a shelf."""
    tree, shelf = Tree(), Shelf()
    for start in range(0, size, batch):
        tree.append(LEAVES[start : min(start + batch, size)])
        shelf.put(tree.tiles_to_store())
    return tree, shelf


def test_known_roots_of_certificate_transparency_come_out() -> None:
    """The eight published leaves give the eight published roots."""
    tree = Tree()
    for entry, root in zip(KNOWN_LEAVES, KNOWN_ROOTS, strict=True):
        tree.append([leaf_hash(entry)])
        assert tree.root().hex() == root


def test_known_proofs_of_certificate_transparency_come_out() -> None:
    """The published inclusion and consistency proofs are made and verified byte for byte."""
    tree, shelf = Tree(), Shelf()
    tree.append(leaf_hashes(KNOWN_LEAVES))
    path = tree.inclusion_proof(0, shelf.read)
    assert [step.hex() for step in path] == KNOWN_INCLUSION_OF_FIRST_IN_EIGHT
    assert verify_inclusion(leaf_hash(b""), 0, 8, path, bytes.fromhex(KNOWN_ROOTS[7]))
    path = tree.consistency_proof(6, shelf.read)
    assert [step.hex() for step in path] == KNOWN_CONSISTENCY_SIX_TO_EIGHT
    assert verify_consistency(6, bytes.fromhex(KNOWN_ROOTS[5]), 8, bytes.fromhex(KNOWN_ROOTS[7]), path)


def test_empty_tree_has_the_hash_of_nothing_as_root() -> None:
    """The root of no leaves is SHA-256 of the empty string."""
    assert Tree().root() == hashlib.sha256(b"").digest() == EMPTY_ROOT
    assert Tree().partial_tiles() == Tree().tiles_to_store() == []


def test_leaf_and_node_hashes_are_told_apart_by_their_first_byte() -> None:
    """A leaf whose entry looks like a node does not hash like that node."""
    left, right = LEAVES[:2]
    assert node_hash(left, right) == hashlib.sha256(b"\x01" + left + right).digest()
    assert leaf_hash(left + right) != node_hash(left, right)
    assert leaf_hashes([b"a", b"b"]) == [leaf_hash(b"a"), leaf_hash(b"b")]


def test_root_equals_the_definition_at_every_size() -> None:
    """Grown leaf by leaf, the root is that of the recursive definition at each size up to 600."""
    tree = Tree()
    for size in range(1, 601):
        tree.append([LEAVES[size - 1]])
        assert tree.root() == naive_root(0, size)
        assert tree.size == size


@given(st.lists(st.integers(0, 700), max_size=6))
@settings(max_examples=60, deadline=None)
def test_batches_of_any_sizes_give_the_same_tree(batches: list[int]) -> None:
    """How leaves are cut into batches changes neither root nor tiles."""
    tree, shelf, size = Tree(), Shelf(), 0
    for count in batches:
        count = min(count, len(LEAVES) - size)
        tree.append(LEAVES[size : size + count])
        size += count
        shelf.put(tree.tiles_to_store())
    one, other = grown(size, batch=3000)
    assert tree.root() == one.root() == (naive_root(0, size) if size else EMPTY_ROOT)
    assert shelf.blobs == other.blobs
    assert tree.partial_tiles() == one.partial_tiles()


def test_tiles_hold_the_complete_nodes_of_each_eighth_height() -> None:
    """Level 0 tiles are leaves, level 1 tiles are the roots of level 0 tiles."""
    tree, shelf = grown(2600)
    assert sorted(shelf.blobs) == [(0, index) for index in range(10)]
    assert shelf.blobs[0, 3] == b"".join(LEAVES[768:1024])
    low, high = tree.partial_tiles()
    assert (low.level, low.index, low.blob) == (0, 10, b"".join(LEAVES[2560:2600]))
    assert (high.level, high.index) == (1, 0)
    assert high.blob == b"".join(tile_root(shelf.blobs[0, index]) for index in range(10))


def test_second_tile_level_fills_after_65536_leaves() -> None:
    """A tile of level 1 appears when its last node is complete."""
    tree = Tree()
    tree.append([LEAVES[0]] * 65_535)
    assert all(tile.level == 0 for tile in tree.tiles_to_store())
    tree.append([LEAVES[0]])
    tiles = {(tile.level, tile.index): tile.blob for tile in tree.tiles_to_store()}
    assert sorted(tiles) == [(0, 255), (1, 0)]
    assert tile_root(tiles[1, 0]) == tree.root()


def test_a_tile_that_is_not_full_has_no_root() -> None:
    """A short tile is refused."""
    with pytest.raises(IntegrityFailed):
        tile_root(bytes(32))


@pytest.mark.parametrize("size", [*range(1, 70), 127, 128, 129, 255, 256, 257, 300])
def test_every_inclusion_proof_equals_the_definition_and_verifies(size: int) -> None:
    """Each leaf of each tree has the path of the RFC, which proves that leaf and no other place."""
    tree, shelf = grown(size)
    for index in range(size):
        path = tree.inclusion_proof(index, shelf.read)
        assert path == naive_path(index, 0, size)
        assert verify_inclusion(LEAVES[index], index, size, path, tree.root())
        assert not verify_inclusion(LEAVES[index], (index + 1) % (size + 1), size, path, tree.root())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 31, 32, 33, 64, 255, 256, 257, 300])
def test_every_consistency_proof_equals_the_definition_and_verifies(size: int) -> None:
    """Each smaller tree is proved a prefix, by the path of the RFC."""
    tree, shelf = grown(size)
    for old in range(1, size + 1):
        path = tree.consistency_proof(old, shelf.read)
        assert path == naive_subproof(old, 0, size, True)
        assert verify_consistency(old, naive_root(0, old), size, tree.root(), path)


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_proofs_for_older_sizes_come_from_the_grown_tree(data: st.DataObject) -> None:
    """A tree answers for every earlier size, and changed proofs fail."""
    now = data.draw(st.integers(2, 3000))
    size = data.draw(st.integers(2, now))
    old = data.draw(st.integers(1, size))
    index = data.draw(st.integers(0, size - 1))
    tree, shelf = grown(now, batch=1000)
    path = tree.inclusion_proof(index, shelf.read, size=size)
    assert path == naive_path(index, 0, size)
    assert verify_inclusion(LEAVES[index], index, size, path, naive_root(0, size))
    spoiled = [*path[:-1], bytes(32)]
    assert not verify_inclusion(LEAVES[index], index, size, spoiled, naive_root(0, size))
    assert not verify_inclusion(LEAVES[index], index, size, path[:-1], naive_root(0, size))
    assert not verify_inclusion(LEAVES[index], index, size, [*path, bytes(32)], naive_root(0, size))
    path = tree.consistency_proof(old, shelf.read, size=size)
    assert path == naive_subproof(old, 0, size, True)
    assert verify_consistency(old, naive_root(0, old), size, naive_root(0, size), path)
    assert not verify_consistency(old, naive_root(0, old), size, naive_root(0, size), [*path, bytes(32)])
    if path:
        assert not verify_consistency(old, naive_root(0, old), size, naive_root(0, size), path[:-1])
        assert not verify_consistency(old, naive_root(0, old), size, naive_root(0, size), [bytes(32), *path[1:]])
        assert not verify_consistency(old, bytes(32), size, naive_root(0, size), path)


def test_rewritten_history_has_no_consistency_proof() -> None:
    """When an old leaf is changed, no proof of the new tree satisfies who remembers the old root."""
    leaves = LEAVES[:200]
    leaves[17] = leaf_hash(b"another amount")
    forged = Tree()
    forged.append(leaves)
    path = forged.consistency_proof(100, Shelf().read)
    assert not verify_consistency(100, naive_root(0, 100), 200, forged.root(), path)


def test_everything_is_consistent_with_the_empty_tree() -> None:
    """From size 0 the proof is empty and only the empty root fits."""
    tree, shelf = grown(5)
    assert tree.consistency_proof(0, shelf.read) == []
    assert verify_consistency(0, EMPTY_ROOT, 5, tree.root(), [])
    assert not verify_consistency(0, bytes(32), 5, tree.root(), [])
    assert not verify_consistency(0, EMPTY_ROOT, 5, tree.root(), [bytes(32)])


def test_equal_sizes_need_equal_roots_and_no_path() -> None:
    """A tree is consistent with itself, and with nothing else of its size."""
    tree, _ = grown(5)
    assert verify_consistency(5, tree.root(), 5, tree.root(), [])
    assert not verify_consistency(5, tree.root(), 5, bytes(32), [])
    assert not verify_consistency(5, tree.root(), 5, tree.root(), [bytes(32)])


@pytest.mark.parametrize(
    ("index", "size", "path"),
    [(-1, 5, []), (5, 5, []), (0, 0, []), (0, 2**63, []), (0, 1, [bytes(32)]), (0, 2, [b"short"]),
     (0, 5, [bytes(32)] * 65), (0, 5, [bytes(32)] * 1000), (0, 2, [])],
)  # fmt: skip
def test_hostile_inclusion_proofs_are_answered_no(index: int, size: int, path: list[bytes]) -> None:
    """Places outside the tree, wrong lengths and endless paths are refused without an exception."""
    assert not verify_inclusion(LEAVES[0], index, size, path, LEAVES[1])


def test_hashes_of_the_wrong_length_are_answered_no() -> None:
    """A leaf or root that is no hash proves nothing."""
    assert not verify_inclusion(b"", 0, 1, [], b"")
    assert not verify_consistency(1, b"", 1, b"", [])
    assert verify_inclusion(LEAVES[0], 0, 1, [], LEAVES[0])


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [(-1, 5, []), (6, 5, []), (1, 2**63, []), (1, 5, []), (3, 5, []), (3, 5, [bytes(32)]), (1, 2, [bytes(32)] * 40),
     (2, 5, [bytes(32)] * 66), (2, 5, [b"short"])],
)  # fmt: skip
def test_hostile_consistency_proofs_are_answered_no(old: int, new: int, path: list[bytes]) -> None:
    """Sizes that cannot be, wrong lengths and endless paths are refused without an exception."""
    assert not verify_consistency(old, LEAVES[0], new, LEAVES[1], path)


@given(
    st.integers(-(2**70), 2**70),
    st.integers(-(2**70), 2**70),
    st.lists(st.binary(min_size=30, max_size=33) | st.binary(min_size=32, max_size=32), max_size=70),
)
@settings(max_examples=150, deadline=None)
def test_verifiers_never_raise(one: int, other: int, path: list[bytes]) -> None:
    """Random numbers and paths are answered no."""
    assert not verify_inclusion(LEAVES[0], one, other, path, LEAVES[1])
    assert not verify_consistency(one, LEAVES[0], other, LEAVES[1], path)


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 2559, 2560, 2999])
def test_a_restored_tree_goes_on_like_the_first(size: int) -> None:
    """Size and unfinished tiles are enough to append, prove and give roots again."""
    tree, shelf = grown(size)
    shelf.put(tree.partial_tiles())
    again = Tree.restore(size, shelf.read)
    assert (again.size, again.root()) == (size, tree.root())
    assert again.partial_tiles() == tree.partial_tiles()
    for grower in (tree, again):
        grower.append(LEAVES[:700])
    assert again.root() == tree.root()
    assert again.tiles_to_store() == tree.tiles_to_store()


def test_restoring_an_older_size_takes_only_what_it_needs() -> None:
    """Tiles that hold more than the size asked for are cut to it."""
    tree, shelf = grown(700)
    shelf.put(tree.partial_tiles())
    assert Tree.restore(600, shelf.read).root() == naive_root(0, 600)


def test_restoring_without_its_tiles_is_refused() -> None:
    """A missing or short tile is an error that names it."""
    with pytest.raises(IntegrityFailed, match="tile 0 of level 0 holds 0 hashes, 5 are needed"):
        Tree.restore(5, Shelf().read)


def test_a_reader_keeps_answering_while_the_tree_grows() -> None:
    """Proofs from a snapshot stay right after more leaves came, also for tiles not stored yet."""
    tree, shelf = Tree(), Shelf()
    tree.append(LEAVES[:600])
    read = tree.reader(shelf.read)
    tree.append(LEAVES[600:1500])
    shelf.put(tree.tiles_to_store())
    empty = tree.reader(Shelf().read)
    assert inclusion_proof(599, 600, read) == naive_path(599, 0, 600)
    assert consistency_proof(300, 600, read) == naive_subproof(300, 0, 600, True)
    with pytest.raises(IntegrityFailed):
        inclusion_proof(0, 1500, empty)


def test_proofs_that_cannot_be_are_refused() -> None:
    """Leaves and sizes that the tree does not have are errors."""
    tree, shelf = grown(5)
    for index, size in ((5, 5), (-1, 5), (0, 6)):
        with pytest.raises(IntegrityFailed):
            tree.inclusion_proof(index, shelf.read, size=size)
    for old, size in ((6, 5), (-1, 5), (1, 6)):
        with pytest.raises(IntegrityFailed):
            tree.consistency_proof(old, shelf.read, size=size)


def test_large_random_trees_prove_and_verify() -> None:
    """At 200,000 leaves, random proofs verify against the root."""
    choose = random.Random(9162)
    leaves = [choose.randbytes(32) for _ in range(200_000)]
    tree, shelf, roots = Tree(), Shelf(), {}
    for start in range(0, len(leaves), 8190):
        tree.append(leaves[start : start + 8190])
        shelf.put(tree.tiles_to_store())
        roots[tree.size] = tree.root()
    for old in roots:
        index = choose.randrange(tree.size)
        assert verify_inclusion(leaves[index], index, tree.size, tree.inclusion_proof(index, shelf.read), tree.root())
        path = tree.consistency_proof(old, shelf.read)
        assert verify_consistency(old, roots[old], tree.size, tree.root(), path)
    assert merkle.TILE_SIZE_BYTES == 8192
