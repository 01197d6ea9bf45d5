"""Tests of secrets on the customer's side: key files, key material, derivation off the loop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fortress.client import credentials
from fortress.client.credentials import LoginKey, key_material, read_key_file, seed_of, write_key_file
from fortress.errors import KeyDerivationRefused, KeyUnusable
from fortress.protocol import schnorr
from fortress.protocol.schnorr import KdfParameters

CHANNEL = bytes(range(32))
KEY = LoginKey(b"s" * 32)


def test_a_key_file_is_made_once_and_for_oneself(tmp_path: Path) -> None:
    """Mode 0600 from the first byte, never overwritten, read as it was written."""
    path = tmp_path / "service.key"
    seed = write_key_file(path)
    assert len(seed) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key_file(path) == seed
    with pytest.raises(KeyUnusable, match="cannot be written"):
        write_key_file(path)
    assert read_key_file(path) == seed


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """It may have been copied; the error says what to do."""
    path = tmp_path / "service.key"
    write_key_file(path)
    path.chmod(0o640)
    with pytest.raises(KeyUnusable, match="0600"):
        read_key_file(path)


@pytest.mark.parametrize("content", ["", "hello", "00" * 31, "00" * 33, "é" * 32])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: str) -> None:
    """And its content is not shown."""
    path = tmp_path / "service.key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeyUnusable, match="holds no key") as caught:
        read_key_file(path)
    assert not content or content not in str(caught.value)


def test_a_missing_key_file_is_told(tmp_path: Path) -> None:
    """With its path."""
    with pytest.raises(KeyUnusable, match="missing.key"):
        read_key_file(tmp_path / "missing.key")


def test_key_material_proves_the_key_on_one_channel(tmp_path: Path) -> None:
    """The bank can check it there, and nowhere else."""
    kdf = KdfParameters()
    material = key_material(KEY, bytes(16), kdf, channel=CHANNEL, bank="a", username="alice")
    assert (material.memory_kib, material.public) == (kdf.memory_kib, KEY.public)
    for channel, is_good in ((CHANNEL, True), (bytes(32), False)):
        c = schnorr.key_proof_challenge(channel, "a", "alice", material.public, material.commitment)
        assert schnorr.verify(material.public, material.commitment, c, material.proof) is is_good


def test_commitments_are_never_the_same() -> None:
    """One random number used twice would reveal the secret."""
    assert len({credentials.commit() for _ in range(100)}) == 100


def test_signing_and_login_keys_differ() -> None:
    """One key never serves two protocols."""
    assert KEY.signing_public() != KEY.public
    assert KEY.signing_public() == LoginKey(b"s" * 32).signing_public()


@pytest.mark.asyncio(loop_factories=["uvloop"])  # deriving keys is slow and the same on both loops
async def test_derivation_leaves_the_loop_free() -> None:
    """While Argon2id runs, other things happen."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    seed = await seed_of("correct horse", credentials.new_salt(), KdfParameters())
    ticking.cancel()
    assert len(seed) == 32
    assert ticks > 10


@pytest.mark.parametrize(("memory_kib", "iterations"), [(1024, 3), (65536, 1), (2**21, 3)])
async def test_unsafe_derivation_is_refused(memory_kib: int, iterations: int) -> None:
    """Too weak helps a thief, too strong stops this machine."""
    with pytest.raises(KeyDerivationRefused):
        await seed_of("correct horse", bytes(16), KdfParameters(memory_kib, iterations, 4))
