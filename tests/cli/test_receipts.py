"""Receipts: fetched and kept as JSON, checked without any server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fortress.client.receipts import decode_receipt, encode_receipt
from fortress.protocol.proofs import head_statement, leaf_hash
from fortress.protocol.reading import HeadAnswer, ReceiptAnswer
from tests.cli.conftest import ID, ID_TEXT, TIME_US, FakeBank

Tell = Callable[..., Any]
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key().public_bytes_raw()


@pytest.fixture
def receipt() -> ReceiptAnswer:
    """The receipt of the only entry of a ledger."""
    entry = msgspec.msgpack.encode([257, TIME_US, ID])
    root = leaf_hash(entry)
    signature = KEY.sign(head_statement(bank="a", epoch=1, tree_size=1, root=root, time_us=TIME_US))
    return ReceiptAnswer(1, entry, [], HeadAnswer("a", 1, 1, root, TIME_US, signature, PUBLIC))


@pytest.fixture
def file(receipt: ReceiptAnswer, tmp_path: Path) -> Path:
    path = tmp_path / "receipt.json"
    path.write_bytes(encode_receipt(receipt))
    return path


def test_a_receipt_is_printed_to_be_kept(
    bank: FakeBank, tell: Tell, receipt: ReceiptAnswer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is printed can be read back."""

    async def fetch(id: bytes, *, position: int) -> ReceiptAnswer:
        assert (id, position) == (ID, 0)
        return receipt

    monkeypatch.setattr(bank, "receipt", fetch, raising=False)
    code, out, err = tell("receipt", "show", ID_TEXT)
    assert code == 0 and "checked" in err
    assert decode_receipt(out.encode()) == receipt


def test_a_good_receipt_is_verified_without_a_bank(tell: Tell, file: Path) -> None:
    """Nobody is asked; there is not even a context."""
    code, out, _ = tell("receipt", "verify", str(file), "--bank", "a", "--id", ID_TEXT, "--json")
    assert code == 0 and out["valid"] and not out["key_known"]
    assert "compare" in tell("receipt", "verify", str(file))[1]
    assert tell("receipt", "verify", str(file), "--signed-by", PUBLIC.hex(), "--json")[1]["key_known"]


@pytest.mark.parametrize(
    "arguments",
    [["--bank", "b"], ["--signed-by", "00" * 32], ["--id", "00000000-0000-7000-8000-000000000001"]],
    ids=lambda arguments: arguments[0],
)
def test_a_receipt_of_something_else_fails_the_check(tell: Tell, file: Path, arguments: list[str]) -> None:
    """Exit code 7."""
    code, out, err = tell("receipt", "verify", str(file), *arguments)
    assert (code, out) == (7, "") and "FT-5008" in err


def test_a_changed_receipt_fails_the_check(tell: Tell, file: Path, receipt: ReceiptAnswer) -> None:
    """One byte of the entry is enough."""
    changed = msgspec.structs.replace(receipt, entry=receipt.entry[:-1] + b"\xff")
    file.write_bytes(encode_receipt(changed))
    assert tell("receipt", "verify", str(file))[0] == 7


def test_what_is_no_receipt_is_wrong_usage(tell: Tell, tmp_path: Path, file: Path) -> None:
    """A missing file, another file, a key that is none."""
    assert tell("receipt", "verify", str(tmp_path / "none"))[0] == 2
    assert tell("receipt", "verify", str(file), "--signed-by", "xyz")[0] == 2
    file.write_text("{}")
    assert tell("receipt", "verify", str(file))[0] == 2
