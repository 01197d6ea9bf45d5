"""``receipt``: a proof that an entry is in the bank's ledger, and its check without any server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fortress.cli.command import current_call, group
from fortress.cli.desk import visit
from fortress.cli.misuse import Misuse
from fortress.cli.output import Fields, Json, say, show
from fortress.cli.views import time_json, time_text
from fortress.client.ids import parse_id

if TYPE_CHECKING:
    from fortress.client.me import Me

receipt_command = group(
    "receipt",
    "Prove that an entry is in the ledger; verify such a proof without the bank.",
    "fortress receipt show ID > receipt.json",
    "fortress receipt verify receipt.json",
)


@receipt_command.command("show", examples=("fortress receipt show ID > receipt.json",))
@click.argument("id_text", metavar="ID")
@click.option("--position", type=click.IntRange(1), help="Of this very entry, as the payment's own position.")
def show_command(id_text: str, position: int | None) -> None:
    """Fetch the receipt of a payment, check it, and print it as JSON, to be kept in a file.

    A payment between banks that was given up once and then done is proven by its --position.
    """
    call = current_call()

    async def read(me: Me) -> None:
        from fortress.client.receipts import encode_receipt

        receipt = await me.receipt(parse_id(id_text), position=position or 0)
        click.echo(encode_receipt(receipt), nl=False)
        say(call, f"entry {receipt.position} of {receipt.head.tree_size}; checked")

    visit(call, read)


@receipt_command.command(
    "verify",
    examples=("fortress receipt verify receipt.json", "fortress receipt verify receipt.json --bank a --id ID"),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--bank", default="", help="The bank it must be of.")
@click.option("--id", "id_text", metavar="ID", help="The payment it must prove.")
@click.option("--signed-by", metavar="HEX", help="The bank's public key for heads, as known from elsewhere.")
def verify_command(file: Path, bank: str, id_text: str | None, signed_by: str | None) -> None:
    """Check a receipt without asking anybody; exit 7 if it proves nothing.

    Without --signed-by it proves that the holder of the key in the receipt signed a ledger with this entry.
    """
    from fortress.client.receipts import decode_receipt, verify_receipt

    call = current_call()
    try:
        receipt = decode_receipt(file.read_bytes())
        keys = [bytes.fromhex(signed_by)] if signed_by else []
    except OSError as exc:
        raise Misuse(f"{str(file)!r} cannot be read: {exc.strerror}", "check the name") from exc
    except ValueError as exc:
        raise Misuse("--signed-by is not hexadecimal", "give the 64 digits of the public key") from exc
    verify_receipt(receipt, bank=bank, keys=keys, id=parse_id(id_text) if id_text else b"")
    head = receipt.head
    document: Json = {
        "valid": True,
        "bank": head.bank,
        "position": receipt.position,
        "tree_size": head.tree_size,
        "time": time_json(head.time_us),
        "key": head.key.hex(),
        "key_known": bool(keys),
    }
    pairs = [
        ("Bank", head.bank),
        ("Entry", f"{receipt.position} of {head.tree_size}"),
        ("Head of", time_text(head.time_us)),
        ("Signed by", head.key.hex() + ("" if keys else " (compare with the bank's)")),
    ]
    show(call, document, Fields(title="The receipt is good.", pairs=pairs))
