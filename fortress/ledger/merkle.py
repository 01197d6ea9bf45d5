"""The Merkle tree over all entries (RFC 9162 section 2.1): roots, proofs, checks of proofs, tiles to store.

A leaf is ``SHA-256(0x00 || entry)``, a node ``SHA-256(0x01 || left || right)``. A node is called complete when all
leaves under it exist; complete nodes never change, so they can be stored and everything else can be folded from them.

The tree is stored as *tiles* (the layout of C2SP tlog-tiles): tile (level t, index i) holds the 256 complete nodes
of height 8t numbered 256i to 256i+255, 32 bytes each. The seven heights between two tile levels are hashed again
when a proof needs them, which keeps what is stored at 1/255 over the leaves. In memory stay the unfinished last
tile of each level and one hash for each set bit of the size (the frontier), which is all that appending and the
root need. Appending works height by height over a whole batch: about one node hash for a leaf.

Rejected: storing every node (twice the bytes, and a row for each), and one tile file per partial width as a public
log would serve (nobody fetches partial tiles here; the store keeps only the newest of each level).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fortress.errors import IntegrityFailed

HASH_SIZE_BYTES = 32
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
TILE_SIZE_BYTES = TILE_WIDTH * HASH_SIZE_BYTES
EMPTY_ROOT = hashlib.sha256(b"").digest()
TREE_SIZE_MAX = 2**63 - 1

_LEAF_PREFIX = b"\x00"
_NODE_PREFIX = b"\x01"
_sha256 = hashlib.sha256

ReadTile = Callable[[int, int], bytes]
"""Reads tile (level, index): 32 bytes for each node it holds; b"" where there is none."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A row of up to 256 complete nodes: ``level``, ``index``, and their hashes end to end in ``blob``."""

    level: int
    index: int
    blob: bytes


def leaf_hash(entry: bytes) -> bytes:
    """Hash one entry into its leaf (RFC 9162 2.1.1)."""
    return _sha256(_LEAF_PREFIX + entry).digest()


def leaf_hashes(entries: Sequence[bytes]) -> list[bytes]:
    """Hash many entries into their leaves, in order."""
    sha256 = _sha256
    return [sha256(b"\x00" + entry).digest() for entry in entries]


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two neighbours into the node above them (RFC 9162 2.1.1)."""
    return _sha256(_NODE_PREFIX + left + right).digest()


def tile_root(blob: bytes) -> bytes:
    """Hash a full tile into the one node above it, which is a hash of the tile level above.

    Raises:
        IntegrityFailed: the tile is not full.
    """
    if len(blob) != TILE_SIZE_BYTES:
        raise IntegrityFailed(f"a full tile has {TILE_SIZE_BYTES} bytes, this one has {len(blob)}")
    return _fold(_split(blob))


class Tree:
    """The tree of one journal, growing at its right edge; holds a few KiB whatever its size.

    Not for two threads at once: a thread that proves while another appends takes a :meth:`reader` first.
    """

    __slots__ = ("_frontier", "_full", "_partial", "_size")

    def __init__(self) -> None:
        self._size = 0
        self._frontier: list[bytes | None] = []
        self._partial: list[list[bytes]] = []
        self._full: dict[tuple[int, int], bytes] = {}

    @classmethod
    def restore(cls, size: int, read_tile: ReadTile) -> Tree:
        """Build the tree of ``size`` leaves again from its unfinished tiles; compare :meth:`root` afterwards.

        Args:
            size: number of leaves.
            read_tile: asked for the last tile of each level that is not full at this size; it may hold more nodes
                than that size needs (a store that is ahead), never fewer.

        Raises:
            IntegrityFailed: a tile is missing or too short.
        """
        tree = cls()
        tree._size = size
        level = 0
        while size >> (TILE_HEIGHT * level):
            width = (size >> (TILE_HEIGHT * level)) % TILE_WIDTH
            index = size >> (TILE_HEIGHT * (level + 1))
            nodes = _nodes_of_tile(read_tile(level, index), level, index, width) if width else []
            tree._partial.append(nodes)
            tree._frontier += _leftovers(nodes)
            level += 1
        return tree

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    def append(self, hashes: Sequence[bytes]) -> None:
        """Add leaves at the right, given as their :func:`leaf_hash`."""
        self._size += len(hashes)
        nodes = list(hashes)
        height = 0
        while nodes:
            if height % TILE_HEIGHT == 0:
                self._extend_tiles(height // TILE_HEIGHT, nodes)
            nodes = self._climb(height, nodes)
            height += 1

    def root(self) -> bytes:
        """Hash the whole tree into its root; about half as many hashes as the size has bits."""
        right: bytes | None = None
        for left in self._frontier:
            if left is not None:
                right = left if right is None else node_hash(left, right)
        return EMPTY_ROOT if right is None else right

    def tiles_to_store(self) -> list[Tile]:
        """Take the tiles filled since the last call; from now on the caller's ``read_tile`` answers for them."""
        tiles = [Tile(level, index, blob) for (level, index), blob in self._full.items()]
        self._full = {}
        return tiles

    def partial_tiles(self) -> list[Tile]:
        """Show the unfinished tiles (at most one a level), which :meth:`restore` needs; replace the older ones."""
        size = self._size
        return [
            Tile(level, size >> (TILE_HEIGHT * (level + 1)), b"".join(nodes))
            for level, nodes in enumerate(self._partial)
            if nodes
        ]

    def reader(self, read_tile: ReadTile) -> ReadTile:
        """Answer tiles as they are now: from memory what is not stored yet, from ``read_tile`` the rest.

        The answer is a snapshot that stays right, and may be used in another thread, while this tree grows.
        """
        in_memory = dict(self._full)
        in_memory.update({(tile.level, tile.index): tile.blob for tile in self.partial_tiles()})

        def read(level: int, index: int) -> bytes:
            blob = in_memory.get((level, index))
            return read_tile(level, index) if blob is None else blob

        return read

    def inclusion_proof(self, index: int, read_tile: ReadTile, *, size: int | None = None) -> list[bytes]:
        """Prove that leaf ``index`` (from 0) is in the tree of the first ``size`` leaves (all by default)."""
        return inclusion_proof(index, self._bounded(size), self.reader(read_tile))

    def consistency_proof(self, old_size: int, read_tile: ReadTile, *, size: int | None = None) -> list[bytes]:
        """Prove that the tree of ``old_size`` leaves is a prefix of that of ``size`` leaves (all by default)."""
        return consistency_proof(old_size, self._bounded(size), self.reader(read_tile))

    def _bounded(self, size: int | None) -> int:
        if size is None:
            return self._size
        if size > self._size:
            raise IntegrityFailed(f"the tree has {self._size} leaves, a proof for {size} was asked for")
        return size

    def _extend_tiles(self, level: int, nodes: list[bytes]) -> None:
        if level == len(self._partial):
            self._partial.append([])
        held = self._partial[level]
        held += nodes
        if len(held) < TILE_WIDTH:
            return
        full = len(held) // TILE_WIDTH
        # Counting from the new number of nodes back: the caller has set the size already.
        first = (self._size >> (TILE_HEIGHT * (level + 1))) - full
        for i in range(full):
            self._full[level, first + i] = b"".join(held[i * TILE_WIDTH : (i + 1) * TILE_WIDTH])
        self._partial[level] = held[full * TILE_WIDTH :]

    def _climb(self, height: int, nodes: list[bytes]) -> list[bytes]:
        """Pair up the nodes of one height, with the one left over before; keep the new one left over."""
        if height == len(self._frontier):
            self._frontier.append(None)
        before = self._frontier[height]
        if before is not None:
            nodes = [before, *nodes]
        self._frontier[height] = nodes[-1] if len(nodes) % 2 else None
        return _parents(nodes)


def inclusion_proof(index: int, size: int, read_tile: ReadTile) -> list[bytes]:
    """Prove that leaf ``index`` (from 0) is in the tree of the first ``size`` leaves (RFC 9162 2.1.3.1).

    Raises:
        IntegrityFailed: there is no such leaf, or a tile is missing or too short.
    """
    if not 0 <= index < size:
        raise IntegrityFailed(f"a tree of {size} leaves has no leaf {index}")
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split_point(high - low)
        if index < middle:
            path.append(_range_hash(middle, high, read_tile))
            high = middle
        else:
            path.append(_range_hash(low, middle, read_tile))
            low = middle
    path.reverse()
    return path


def consistency_proof(old_size: int, new_size: int, read_tile: ReadTile) -> list[bytes]:
    """Prove that the tree of ``old_size`` leaves is a prefix of that of ``new_size`` (RFC 9162 2.1.4.1).

    The proof is empty for equal sizes, and for an old size of 0, which is a prefix of everything.

    Raises:
        IntegrityFailed: the old size is over the new one, or a tile is missing or too short.
    """
    if not 0 <= old_size <= new_size:
        raise IntegrityFailed(f"a tree of {old_size} leaves cannot be a prefix of one of {new_size}")
    if old_size in (0, new_size):
        return []
    path: list[bytes] = []
    low, high = 0, new_size
    while high != old_size:
        middle = low + _split_point(high - low)
        if old_size <= middle:
            path.append(_range_hash(middle, high, read_tile))
            high = middle
        else:
            path.append(_range_hash(low, middle, read_tile))
            low = middle
    # From 0 up it is the old tree itself, whose root the verifier holds already.
    if low:
        path.append(_range_hash(low, high, read_tile))
    path.reverse()
    return path


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Tell whether ``path`` proves that ``leaf`` is number ``index`` under ``root`` (RFC 9162 2.1.3.2).

    Never raises on values of these types, however wrong; a path longer than any tree needs is refused early.
    """
    if not 0 <= index < size <= TREE_SIZE_MAX or not _are_hashes(leaf, root, *path[:65]) or len(path) > 64:
        return False
    node, last, result = index, size - 1, leaf
    for neighbour in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            result = node_hash(neighbour, result)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            result = node_hash(result, neighbour)
        node >>= 1
        last >>= 1
    return last == 0 and result == root


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Tell whether ``path`` proves that the new tree continues the old one (RFC 9162 2.1.4.2).

    An empty old tree is continued by every tree, with an empty path. Never raises on values of these types.
    """
    if not 0 <= old_size <= new_size <= TREE_SIZE_MAX or len(path) > 65 or not _are_hashes(old_root, new_root, *path):
        return False
    if old_size == new_size:
        return not path and old_root == new_root
    if old_size == 0:
        return not path and old_root == EMPTY_ROOT
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    # An old tree that is one complete node is not sent: the verifier's own old root stands for it.
    steps = [old_root, *path] if old_size & (old_size - 1) == 0 else list(path)
    if len(steps) < 2:
        return False
    return _climb_consistency(node, last, steps) == (old_root, new_root)


def _climb_consistency(node: int, last: int, steps: list[bytes]) -> tuple[bytes, bytes] | None:
    """Fold a consistency path into (old root, new root); None when its length does not fit the sizes."""
    old = new = steps[0]
    for neighbour in steps[1:]:
        if last == 0:
            return None
        if node & 1 or node == last:
            old, new = node_hash(neighbour, old), node_hash(neighbour, new)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            new = node_hash(new, neighbour)
        node >>= 1
        last >>= 1
    return (old, new) if last == 0 else None


def _are_hashes(*values: object) -> bool:
    return all(isinstance(value, bytes) and len(value) == HASH_SIZE_BYTES for value in values)


def _split_point(count: int) -> int:
    """Find the largest power of two below ``count`` (at least 2): the left side of RFC 9162 2.1.1."""
    return 1 << ((count - 1).bit_length() - 1)


def _range_hash(low: int, high: int, read_tile: ReadTile) -> bytes:
    """Hash leaves low .. high-1, a range that begins where a subtree of the RFC begins."""
    complete: list[bytes] = []
    while low < high:
        height = (high - low).bit_length() - 1
        complete.append(_complete_node(height, low >> height, read_tile))
        low += 1 << height
    result = complete.pop()
    while complete:
        result = node_hash(complete.pop(), result)
    return result


def _complete_node(height: int, index: int, read_tile: ReadTile) -> bytes:
    """Hash complete node ``index`` of this height from the tile that holds the nodes below it."""
    level, above = divmod(height, TILE_HEIGHT)
    tile, first = divmod(index << above, TILE_WIDTH)
    width = first + (1 << above)
    return _fold(_nodes_of_tile(read_tile(level, tile), level, tile, width)[first:])


def _nodes_of_tile(blob: bytes, level: int, index: int, width: int) -> list[bytes]:
    if len(blob) < width * HASH_SIZE_BYTES:
        raise IntegrityFailed(
            f"tile {index} of level {level} holds {len(blob) // HASH_SIZE_BYTES} hashes, {width} are needed"
        )
    return _split(blob[: width * HASH_SIZE_BYTES])


def _split(blob: bytes) -> list[bytes]:
    return [blob[i : i + HASH_SIZE_BYTES] for i in range(0, len(blob), HASH_SIZE_BYTES)]


def _fold(nodes: list[bytes]) -> bytes:
    """Hash a power of two of neighbours into the node above all of them."""
    while len(nodes) > 1:
        nodes = _parents(nodes)
    return nodes[0]


def _leftovers(nodes: list[bytes]) -> list[bytes | None]:
    """Show which node stays without a neighbour at each height of one tile level."""
    left: list[bytes | None] = []
    for _ in range(TILE_HEIGHT):
        left.append(nodes[-1] if len(nodes) % 2 else None)
        nodes = _parents(nodes)
    return left


def _parents(nodes: list[bytes]) -> list[bytes]:
    """Hash neighbours two by two; a last odd one is left out."""
    sha256 = _sha256
    pairs = iter(nodes)
    return [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=False)]
