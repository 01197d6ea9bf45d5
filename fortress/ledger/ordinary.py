"""The short way for what nearly every command is: a transfer between customers that nothing stands against.

What is right say :mod:`fortress.ledger.rules` and :mod:`fortress.ledger.posting`; no rule is made here. A transfer is
ordinary when its id is new, both accounts are open customers' accounts in memory, the debited one is the actor's (or
the actor is staff) and has enough and no limits, and nothing is signed or dated. It is then judged, posted, encoded
and noted in one step, without the objects in between, with the same result to the byte. For anything else, refusals
above all, the answer is None, nothing has changed, and the long way decides; so the order of the checks means nothing
here. The tests do random transfers both ways and compare verdicts, books, entries and deltas.
"""

from __future__ import annotations

from collections import defaultdict

from fortress.errors import Status
from fortress.ledger.commands import MoveBatch, MoveMoney
from fortress.ledger.delta import MARK_EVERY, Delta
from fortress.ledger.entries import Posted, encode
from fortress.ledger.memory import TIME_ORDERED, Memory
from fortress.ledger.model import DAY_US, INTEGER_MAX, Account, AccountKind, AccountState, TransferKind
from fortress.ledger.posting import spend
from fortress.ledger.rules import Verdict

_OK = Status.ok
_OPEN = int(AccountState.open)
_CUSTOMER = int(AccountKind.customer)
_TRANSFER = int(TransferKind.transfer)


def post_transfer(memory: Memory, delta: Delta, command: MoveMoney, now_us: int) -> Verdict | None:
    """Judge a transfer ok and post it, if it is ordinary; else None, and nothing has changed."""
    id, number, other, amount, currency = command.id, command.debit, command.credit, command.amount, command.currency
    actor, ids, accounts = command.actor, memory.ids, memory.accounts.newer
    debit, credit = accounts.get(number), accounts.get(other)
    if debit is None or credit is None:
        return None
    debits, credits, floor = debit.debits_posted + amount, credit.credits_posted + amount, debit.floor
    left = debit.credits_posted - debits
    if not (
        memory.id_seen < id < memory.id_ahead
        and id[6] & 0xF0 == TIME_ORDERED
        and id not in ids.newer
        and id not in ids.older
        and debit is not credit
        and command.kind == _TRANSFER
        and debit.kind == _CUSTOMER == credit.kind
        and debit.state == _OPEN == credit.state
        and debit.currency == currency == credit.currency
        and currency in memory.currencies
        and (debit.owner == actor.customer or actor.is_cashier)
        and debit.limit_payment is debit.limit_day is debit.limit_month is None
        and floor is not None
        and left - debit.debits_pending >= floor
        and debits + debit.debits_pending <= INTEGER_MAX >= credits + credit.credits_pending
        and not (debit.signed_orders_only or command.value_date or command.order_signature)
    ):
        return None
    balances = (left, credits - credit.debits_posted)
    entry = Posted(now_us, id, number, other, amount, currency, _TRANSFER, command.reference, *balances, actor.customer)
    blob = encode(entry)  # what cannot be encoded has changed nothing
    memory.position = position = memory.position + 1
    debit.debits_posted, credit.credits_posted = debits, credits
    if debit.day == now_us // DAY_US:
        debit.day_spent += amount
        debit.month_spent += amount
    else:
        spend(debit, amount, now_us)
    delta.chain.append((number, debit.last_position, other, credit.last_position))
    debit.last_position = credit.last_position = position
    debit.entry_count = count = debit.entry_count + 1
    if not count % MARK_EVERY:
        delta.marks.append((number, position))
    credit.entry_count = count = credit.entry_count + 1
    if not count % MARK_EVERY:
        delta.marks.append((other, position))
    delta.touched[number], delta.touched[other] = debit, credit
    ids.newer[id] = (position, entry)
    delta.ids.append(id)
    delta.id_positions.append(position)
    delta.entries.append(blob)
    delta.size_bytes += len(blob)
    return Verdict(_OK, entry, (), False, position)


def post_rows(memory: Memory, delta: Delta, batch: MoveBatch, now_us: int) -> list[Verdict] | None:
    """Judge all rows of a batch ok and post them, if all are ordinary in whatever order; else None, nothing changed.

    In whatever order: what an account receives within the batch does not count. Where it is needed, the long way
    finds out.
    """
    rows = batch.rows
    ids = [row.id for row in rows]
    if not ids or not memory.are_ids_told_by_time(ids) or not memory.are_ids_new(ids):
        return None
    accounts = _able_accounts(memory, batch)
    if accounts is None:
        return None
    positions = range(memory.position + 1, memory.position + 1 + len(ids))
    memory.position += len(ids)  # first: whoever is stopped from here on must know that the books have changed
    entries = _post_all(accounts, delta, batch, positions, now_us)
    blobs = list(map(encode, entries))
    delta.entries += blobs
    delta.size_bytes += sum(map(len, blobs))
    delta.touched.update(accounts)
    delta.ids += ids
    delta.id_positions += positions
    memory.ids.newer.update(zip(ids, zip(positions, entries, strict=True), strict=True))
    return [Verdict(_OK, entry, (), False, position) for position, entry in zip(positions, entries, strict=True)]


def _able_accounts(memory: Memory, batch: MoveBatch) -> dict[int, Account] | None:
    """Give the accounts that a batch names, if each can pay and take all that the batch asks of it."""
    currency, actor = batch.currency, batch.actor
    owner = None if actor.is_cashier else actor.customer
    spent: defaultdict[int, int] = defaultdict(int)
    for row in batch.rows:
        if row.debit == row.credit:
            return None
        spent[row.debit] += row.amount_minor
    most = INTEGER_MAX - sum(spent.values())  # an account that has less can take all of it
    accounts: dict[int, Account] = {}
    newer = memory.accounts.newer
    for number in {row.credit for row in batch.rows}.union(spent):
        account = newer.get(number) or memory.account(number)
        if (
            account is None
            or account.kind != _CUSTOMER
            or account.state != _OPEN
            or account.currency != currency
            or account.credits_posted + account.credits_pending > most
            or (number in spent and not _can_pay(account, spent[number], owner))
        ):
            return None
        accounts[number] = account
    return accounts if currency in memory.currencies else None


def _can_pay(account: Account, amount: int, owner: int | None) -> bool:
    available = account.credits_posted - account.debits_posted - account.debits_pending
    return (
        owner in (account.owner, None)
        and account.limit_payment is account.limit_day is account.limit_month is None
        and account.floor is not None
        and available - amount >= account.floor
        and account.debits_posted + account.debits_pending + amount <= INTEGER_MAX
        and not account.signed_orders_only
    )


def _post_all(
    accounts: dict[int, Account], delta: Delta, batch: MoveBatch, positions: range, now_us: int
) -> list[Posted]:
    actor, currency, day = batch.actor.customer, batch.currency, now_us // DAY_US
    chain, entries = delta.chain, []
    for position, row in zip(positions, batch.rows, strict=True):
        number, other, amount = row.debit, row.credit, row.amount_minor
        debit, credit = accounts[number], accounts[other]
        debit.debits_posted = debits = debit.debits_posted + amount
        credit.credits_posted = credits = credit.credits_posted + amount
        left, balance = debit.credits_posted - debits, credits - credit.debits_posted
        entry = Posted(now_us, row.id, number, other, amount, currency, _TRANSFER, row.reference, left, balance, actor)
        entries.append(entry)
        chain.append((number, debit.last_position, other, credit.last_position))
        debit.last_position = credit.last_position = position
        debit.entry_count = count = debit.entry_count + 1
        if not count % MARK_EVERY:
            delta.marks.append((number, position))
        credit.entry_count = count = credit.entry_count + 1
        if not count % MARK_EVERY:
            delta.marks.append((other, position))
        if debit.day == day:
            debit.day_spent += amount
            debit.month_spent += amount
        else:
            spend(debit, amount, now_us)
    return entries
