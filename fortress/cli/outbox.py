"""``outbox``: payments that are written down now and sent when the bank can be reached, once and in order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fortress.cli.command import Call, current_call, group
from fortress.cli.contexts import Context
from fortress.cli.desk import open_contexts
from fortress.cli.misuse import Misuse
from fortress.cli.orders import amount_text, answer_text, item_fields, item_json, items_table, state_text
from fortress.cli.output import Json, LiveLine, say, show
from fortress.cli.payments import (
    AMOUNT,
    NOT_AFTER,
    REFERENCE,
    YES,
    check_payee,
    id_of,
    payee_of,
    read_amount,
    until_of,
)
from fortress.cli.prompts import PASSWORD_FILE
from fortress.cli.signing import KEY_FILE, SIGN, Key, key_of, sessions, visit_with
from fortress.client.ids import format_id, parse_id
from fortress.errors import (
    OutcomeUnknown,
    Refused,
    Status,
    Unreachable,
    refusal_code,
)

if TYPE_CHECKING:
    from fortress.client.me import Me
    from fortress.client.money import Money
    from fortress.client.order_file import OutboxItem
    from fortress.client.outbox import Outbox
    from fortress.protocol.orders import PaymentOrder

OPEN_STATES: Final = ("queued", "sent")

FILE = click.option(
    "--file", type=click.Path(path_type=Path), metavar="FILE", help="The outbox; that of the context otherwise."
)
PASSPHRASE_FILE = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Its passphrase, on the first line of this file; otherwise its key lies beside it.",
)
ID = click.argument("id_text", metavar="ID")

outbox_command = group(
    "outbox",
    "Payments that are kept on this machine until they are done: for when the bank cannot be reached.",
    "fortress outbox add b/4711000093 12.50 EUR --from 4711000190",
    "fortress outbox list",
    "fortress outbox send",
)


@outbox_command.command(
    "add",
    examples=(
        "fortress outbox add b/4711000093 12.50 EUR --from 4711000190 --not-after 2d",
        "fortress outbox add b/4711000093 12.50 EUR --from 4711000190 --key-file ./alice.key",
        "fortress outbox add b/ines 12.50 EUR --sign",
    ),
)
@click.argument("to", metavar="TO")
@AMOUNT
@click.option("--from", "source", type=int, metavar="ACCOUNT", help="Account to take from; needed without the bank.")
@REFERENCE
@click.option("--id", "id_text", metavar="ID", help="An id of your own; adding it again changes nothing.")
@NOT_AFTER
@YES
@SIGN
@KEY_FILE
@PASSWORD_FILE
@FILE
@PASSPHRASE_FILE
def add_command(
    to: str,
    amount: tuple[str, ...],
    source: int | None,
    reference: str,
    id_text: str | None,
    not_after: str | None,
    yes: bool,
    sign: bool,
    key_file: Path | None,
    password_file: Path | None,
    file: Path | None,
    passphrase_file: Path | None,
) -> None:
    """Write a payment down; it is on the disk, encrypted, when this returns. 'fortress outbox send' sends it.

    With payee and account by number and a currency the bank is not asked, so this works without a connection; with a
    --key-file the order is signed here as well. Names are looked up, and passwords checked, at the bank.
    """
    call = current_call()
    context = open_contexts().get(call.context)
    key = key_of(call, context, sign=sign, key_file=key_file, password_file=password_file)
    plan = Plan(call, context, to=to, words=amount, source=source, reference=reference, id=id_of(id_text), yes=yes)
    until = until_of(not_after)
    plan.not_after_us = int(until.timestamp()) * 1_000_000 if until else 0
    with open_outbox(call, context, file, passphrase_file) as box:
        order, signature = plan.write_down(key)
        item = box.add(order, signature)
    say(call, "nothing was sent yet; 'fortress outbox send' does that")
    show(call, item_json(item), item_fields(item))


class Plan:
    """A payment that is about to be written down, with the bank's help where it is needed.

    Attributes:
        not_after_us: until when it may be carried out; 0 for no end.
    """

    def __init__(
        self,
        call: Call,
        context: Context,
        *,
        to: str,
        words: tuple[str, ...],
        source: int | None,
        reference: str,
        id: bytes,
        yes: bool,
    ) -> None:
        self.not_after_us = 0
        self._call, self._context = call, context
        self._to, self._words, self._source = to, words, source
        self._reference, self._id, self._yes = reference, id, yes

    def write_down(self, key: Key | None) -> tuple[PaymentOrder, bytes]:
        """Give the order and its signature, if there is a key; asks the bank only for what is not known here.

        Raises:
            Misuse: the bank is needed and cannot be reached.
        """
        bank, slash, number = self._to.rpartition("/")
        has_currency = any(char.isalpha() for char in " ".join(self._words))
        is_complete = number.isascii() and number.isdigit() and self._source and has_currency
        if is_complete and (key is None or key.file is not None):
            from fortress.client.money import parse

            order = self._order(f"{bank if slash else self._context.bank}/{number}", parse(" ".join(self._words)))
            return order, _sign_here(order, key)
        try:
            return visit_with(self._call, key, self._ask)
        except Unreachable as exc:
            raise Misuse(
                f"the bank is needed for this and cannot be reached: {exc.message}",
                "name payee and account by number, with a currency, and sign with --key-file, if at all",
            ) from exc

    async def _ask(self, me: Me) -> tuple[PaymentOrder, bytes]:
        money = await read_amount(me, self._words, self._source or 0)
        payee, name = await payee_of(me, self._to, money.currency)
        check_payee(self._call, payee, name, money, yes=self._yes)
        say(self._call, f"to {name or self._to}, account {payee}")
        self._source = self._source or (await me.account()).number
        order = self._order(payee if "/" in payee else f"{me.bank}/{payee}", money)
        return order, me.sign(order)

    def _order(self, payee: str, money: Money) -> PaymentOrder:
        from fortress.protocol.orders import PaymentOrder

        return PaymentOrder(
            bank=self._context.bank,
            id=self._id,
            debit=self._source or 0,
            payee=payee,
            amount_minor=money.minor,
            currency=money.currency,
            reference=self._reference,
            not_after_us=self.not_after_us,
        )


def _sign_here(order: PaymentOrder, key: Key | None) -> bytes:
    if key is None or key.file is None:
        return b""
    from fortress.client.credentials import LoginKey, read_key_file
    from fortress.protocol.orders import sign_order

    return sign_order(order, LoginKey(read_key_file(key.file)).signing_seed)


@outbox_command.command("list", examples=("fortress outbox list", "fortress outbox list --json"))
@FILE
@PASSPHRASE_FILE
def list_command(file: Path | None, passphrase_file: Path | None) -> None:
    """List what is in the outbox, oldest first, and what the bank said."""
    call = current_call()
    with open_outbox(call, open_contexts().get(call.context), file, passphrase_file) as box:
        items = box.list()
    show(call, [item_json(item) for item in items], items_table(items))


@outbox_command.command("show", examples=("fortress outbox show ID", "fortress outbox show ID --receipt receipt.json"))
@ID
@click.option("--receipt", type=click.Path(path_type=Path), metavar="FILE", help="Write its receipt to this file.")
@FILE
@PASSPHRASE_FILE
def show_command(id_text: str, receipt: Path | None, file: Path | None, passphrase_file: Path | None) -> None:
    """Show a payment of the outbox; the receipt of one that was done can be written out for others to check."""
    call = current_call()
    with open_outbox(call, open_contexts().get(call.context), file, passphrase_file) as box:
        item = box.get(parse_id(id_text))
    if receipt is not None:
        _write_receipt(item, receipt)
        say(call, f"'fortress receipt verify {receipt}' checks it")
    show(call, item_json(item), item_fields(item))


def _write_receipt(item: OutboxItem, file: Path) -> None:
    from fortress.client.receipts import encode_receipt

    if item.receipt is None:
        raise Misuse(f"there is no receipt of a payment that {state_text(item)}", "one comes when it was done and sent")
    try:
        file.write_bytes(encode_receipt(item.receipt))
    except OSError as exc:
        raise Misuse(f"{str(file)!r} cannot be written: {exc.strerror}", "check the name") from exc


@outbox_command.command("remove", examples=("fortress outbox remove ID", "fortress outbox remove --all"))
@click.argument("id_text", metavar="[ID]", required=False)
@click.option("--all", "is_all", is_flag=True, help="All that are done, refused or expired.")
@FILE
@PASSPHRASE_FILE
def remove_command(id_text: str | None, is_all: bool, file: Path | None, passphrase_file: Path | None) -> None:
    """Take a payment out that has its answer, or one that was certainly not done and shall not be any more.

    One that was sent and has no answer stays: only the bank can say what became of it.
    """
    call = current_call()
    if bool(id_text) == is_all:
        raise Misuse("it was not said what to take out", "name an ID, or --all for what has its answer")
    with open_outbox(call, open_contexts().get(call.context), file, passphrase_file) as box:
        ids = [item.id for item in box.list() if item.is_terminal] if is_all else [parse_id(id_text or "")]
        removed = [box.remove(id) for id in ids]
    show(call, {"removed": [format_id(item.id) for item in removed]}, f"{len(removed)} taken out.")


@outbox_command.command(
    "send",
    examples=(
        "fortress outbox send",
        "fortress outbox send --watch --key-file ./alice.key",
        "fortress outbox send --json",
    ),
)
@click.option("--watch", is_flag=True, help="Keep trying, and send what is added later, until Ctrl-C.")
@SIGN
@KEY_FILE
@PASSWORD_FILE
@FILE
@PASSPHRASE_FILE
def send_command(
    watch: bool,
    sign: bool,
    key_file: Path | None,
    password_file: Path | None,
    file: Path | None,
    passphrase_file: Path | None,
) -> None:
    """Send what is in the outbox: in order for each account, each once however often it has to be tried.

    Gives up when nothing was answered for as long as --timeout says; what is left stays in the outbox. Exit 1 if the
    bank refused one or it came too late, 4 if nobody was reached, 5 if of one it is not known whether it was done.
    With --watch, a key file or password file lets it sign in anew when the session has ended.
    """
    call = current_call()
    contexts = open_contexts()
    context = contexts.get(call.context)
    key = key_of(call, context, sign=sign, key_file=key_file, password_file=password_file)
    with open_outbox(call, context, file, passphrase_file) as box:
        progress = Progress(call, box)
        try:
            _send_all(call, box, key, progress, watch=watch)
        finally:
            progress.close()
        show(call, progress.document(), progress.summary(), items_table(progress.changed()))
        _tell_rest(box, progress)


def _send_all(call: Call, box: Outbox, key: Key | None, progress: Progress, *, watch: bool) -> None:
    import asyncio

    contexts = open_contexts()
    session = sessions(call, contexts, contexts.get(call.context), key)
    if watch:
        asyncio.run(box.run(session, until_empty=False, on_change=progress.note))
        return
    is_moving = True
    while is_moving:
        before = progress.answered
        asyncio.run(box.run(session, deadline_s=call.timeout_s, on_change=progress.note))
        is_moving = progress.answered > before and bool(progress.open_items())


class Progress:
    """What has become of the payments since the command began."""

    def __init__(self, call: Call, box: Outbox) -> None:
        self._call, self._box = call, box
        self._live = LiveLine(call)
        self._changed: dict[bytes, OutboxItem] = {}
        self._total = len(self.open_items())

    @property
    def answered(self) -> int:
        """How many got their answer."""
        return sum(item.is_terminal for item in self._changed.values())

    def open_items(self) -> list[OutboxItem]:
        """Give what has no answer yet."""
        return [item for item in self._box.list() if not item.is_terminal]

    def changed(self) -> list[OutboxItem]:
        """Give what got its answer or was tried, in order."""
        return sorted(self._changed.values(), key=lambda item: item.number)

    def note(self, item: OutboxItem) -> None:
        """Take a change: a live line on a terminal, a line of its own for what was not done."""
        is_new = item.id not in self._changed or self._changed[item.id].state != item.state
        self._changed[item.id] = item
        self._total = max(self._total, len(self._changed))
        if is_new and item.state in ("refused", "expired"):
            self._live.close()
            say(self._call, f"{item.state}: {format_id(item.id)}, {amount_text(item)} to {item.order.payee}")
        self._live.update(f"{self.answered} of {self._total} answered  {answer_text(item)}")

    def close(self) -> None:
        """Take the live line away."""
        self._live.close()

    def summary(self) -> str:
        """Say in a sentence what became of everything."""
        counts = Counter(state_text(item) for item in [*self.changed(), *self._untouched()])
        return ", ".join(f"{count} {state}" for state, count in counts.items()) + "." if counts else "Nothing to send."

    def document(self) -> Json:
        """Say it for programs."""
        counts = Counter(str(item.state) for item in [*self.changed(), *self._untouched()])
        states = ("done", "refused", "expired", *OPEN_STATES)
        return {**{state: counts[state] for state in states}, "orders": [item_json(item) for item in self.changed()]}

    def _untouched(self) -> list[OutboxItem]:
        return [item for item in self.open_items() if item.id not in self._changed]


def _tell_rest(box: Outbox, progress: Progress) -> None:
    """End with the error that counts most: a doubt, then what was not sent, then what was refused."""
    rest = Counter(str(item.state) for item in progress.open_items())
    again = "'fortress outbox send' goes on with the same ids"
    if rest["sent"]:
        raise OutcomeUnknown(f"of {rest['sent']} it is not known yet whether they were done; {again}")
    if rest["queued"]:
        obstacle = box.obstacle or Unreachable()
        raise type(obstacle)(f"{rest['queued']} not sent: {obstacle.message}; {again}", obstacle.facts)
    for item in progress.changed():
        if item.is_terminal and item.outcome.code:
            facts = {**item.outcome.facts, "id": format_id(item.id), "currency": item.order.currency}
            raise _refusal(item, Refused(Status(item.outcome.code - refusal_code(Status.ok)), facts))


def _refusal(item: OutboxItem, refusal: Refused) -> Refused:
    refusal.message = f"payment {format_id(item.id)}: {refusal.message}"
    return refusal


def open_outbox(call: Call, context: Context, file: Path | None, passphrase_file: Path | None) -> Outbox:
    """Open the outbox of the context's person, or the one named."""
    from fortress.client.outbox import Outbox

    path = file or open_contexts().outbox_file(context)
    return Outbox.open(path, bank=context.bank, username=context.username, passphrase_file=passphrase_file)
