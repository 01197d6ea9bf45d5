"""One bank node as a running whole: opened from its folder, served, drained.

Puts the parts together and owns their order: ledger, committer, bank, connections; at the end connections first and
the ledger last, so that everything answered is written and everything written is closed in order.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509

from fortress import __version__
from fortress.errors import (
    BooksBroken,
    Busy,
    FortressError,
    KeyUnusable,
    LedgerError,
    Refused,
    RetryableError,
    UnknownOperation,
)
from fortress.ledger.commands import ReleaseHold
from fortress.ledger.engine import Engine
from fortress.ledger.model import BANK_ACTOR, HoldState
from fortress.ledger.vault import Vault
from fortress.server import (
    administration_handlers,
    approvals,
    logs,
    money_handlers,
    payment_handlers,
    reading_handlers,
    session_handlers,
    switch_handlers,
)
from fortress.server.bank import Bank, now_us
from fortress.server.committer import Committer, CommitterSettings
from fortress.server.folder import Folder, data_folder
from fortress.server.founding import found
from fortress.server.handlers import Dispatcher
from fortress.server.login import LoginDesk
from fortress.server.logs import log_event
from fortress.server.member_committer import MemberCommitter
from fortress.server.node import Node, Standing
from fortress.server.notifications import Notifications
from fortress.server.operations import Operations
from fortress.server.ports import Part
from fortress.server.replica import Replica
from fortress.server.server import Server
from fortress.server.statistics import Statistics
from fortress.server.throttle import Throttle
from fortress.server.tokens import Tokens

if TYPE_CHECKING:
    from fortress.pair.control import Control
    from fortress.server.pairing import Pairing, Restart

BOOTSTRAP_FILE = "bootstrap.json"
PEOPLE_FILE = "people.db"
SWITCH_INTERVAL_S = 0.0001  # a worker waiting for the interpreter lock gets it 50 times sooner than by default
GC_THRESHOLDS = (50_000, 50, 100)
EXPIRE_EVERY_S = 1.0
WARM_UP_AT_ONCE = 500
EXPIRE_AT_ONCE_MAX = 1_000
BOOKS_EVERY_S = 60.0
RESTART_DRAIN_S = 0.5
HANDLERS = (
    *session_handlers.HANDLERS,
    *money_handlers.MONEY_HANDLERS,
    *reading_handlers.READING_HANDLERS,
    *administration_handlers.ADMINISTRATION_HANDLERS,
    *payment_handlers.PAYMENT_HANDLERS,
    *switch_handlers.SWITCH_HANDLERS,
)

logger = logging.getLogger(__name__)


class Process:
    """A node from start to stop; made by :meth:`start`.

    Attributes:
        stopped: set when the node must end: after a broken ledger, with ``failure`` set; or to start anew as
            ``restart`` says.
    """

    def __init__(self, folder: Folder, engine: Engine, vault: Vault, control: Control | None) -> None:
        self.folder = folder
        self.failure: FortressError | None = None
        self.restart: Restart | None = None
        self.stopped = asyncio.Event()
        settings, keyring = folder.settings, folder.keyring
        statistics = Statistics()
        desk = LoginDesk(settings.node.bank, keyring.handle_key, settings.login)
        self.server = Server(
            settings,
            tls=folder.tls,
            noise_private=keyring.noise_private,
            identity_payload=folder.identity_payload,
            desk=desk,
            statistics=statistics,
        )
        limits = settings.committer
        self._replica = Replica(engine, on_fatal=self.fail) if control is not None else None
        make_committer: type[Committer] = Committer if control is None else MemberCommitter
        self.committer = make_committer(
            engine,
            CommitterSettings(limits.queue_max, limits.batch_entries_max, limits.unapplied_entries_max),
            writer=self._replica,
            on_commit=lambda delta: notifications.on_commit(delta),
            after_answers=self.server.flush,
            on_fatal=self.fail,
        )
        bank = Bank(engine, self.committer, vault, desk, head_seed=keyring.head_seed)
        notifications = Notifications(bank)
        self.server.on_gone.append(notifications.unsubscribe)
        self.node = Node(
            settings=settings,
            bank=bank,
            server=self.server,
            keyring=keyring,
            desk=desk,
            tokens=Tokens(keyring.token_seed, settings.node.bank, settings.login.token_s),
            throttle=Throttle(settings.login),
            statistics=statistics,
            notifications=notifications,
            standing=self._standing if control is not None else None,
        )
        self.dispatcher = Dispatcher(self.node, HANDLERS)
        self.pairing: Pairing | None = None
        self._parts: Sequence[Part] = ()
        self._imbalance: dict[str, int] = {}
        self._chores: list[asyncio.Task[None]] = []
        self._certificate_expiry = _expiry_of(folder)
        self._is_ending = False
        self._is_stopping = False
        self._opened = AsyncExitStack()  # what stopping closes, once the start has succeeded

    @classmethod
    async def start(
        cls,
        folder: Folder,
        *,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        make_parts: Callable[[Process], Sequence[Part]] = lambda process: (),
    ) -> Process:
        """Open the ledger of a folder, bring it up to date, and serve.

        Args:
            folder: opened and locked by ``open_folder``; closed by :meth:`stop`, and when starting fails.
            on_progress: told records applied and to apply when the tables must catch up with the journal.
            make_parts: makes what this node does besides.

        Raises:
            LedgerError: the ledger cannot be trusted, or people's keys are missing; nothing is served.
            AddressInUse: something else listens there.
        """
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        data = data_folder(folder.settings)
        async with AsyncExitStack() as opened:
            opened.callback(folder.close)
            control = _open_control(folder)
            if control is not None:
                opened.callback(control.close)
            engine = await asyncio.to_thread(_open_engine, folder, on_progress)
            opened.push_async_callback(asyncio.to_thread, engine.close)
            vault = await asyncio.to_thread(_open_vault, data / PEOPLE_FILE, folder.keyring.vault_key, engine)
            opened.callback(vault.close)
            process = cls(folder, engine, vault, control)
            opened.push_async_callback(process.committer.close)
            process._parts = make_parts(process)
            if control is None:
                await process._make_whole()
            else:
                await process._enter_pair(engine, vault, control)
            await process.node.backup.look(data)
            await process.server.start(process.dispatcher)
            if process.pairing is not None:
                opened.push_async_callback(process.pairing.stop)
                await process.pairing.replication.start()
            for part in process._parts:
                opened.push_async_callback(part.stop)
                await part.start()
            opened.callback(process._dismiss)
            operations = Operations(data, process.commands())
            await operations.start()
            opened.push_async_callback(operations.stop)
            process._opened = opened.pop_all()
        # What stands now stays: the collector need not look at it again, nor at each 700 objects of a busy bank.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        chores = [process._expire_holds(), process._watch_books(), process._warm_up(), process.node.backup.watch(data)]
        if process.pairing is not None:
            chores.append(process.pairing.watch_disk(process._is_disk_full))
        process._chores = [asyncio.create_task(chore) for chore in chores]
        return process

    async def _enter_pair(self, engine: Engine, vault: Vault, control: Control) -> None:
        from fortress.server.membership import enter_pair

        assert self._replica is not None and isinstance(self.committer, MemberCommitter)
        self._replica.committer = self.committer
        self.pairing = enter_pair(
            self.folder,
            self._replica,
            engine=engine,
            vault=vault,
            control=control,
            committer=self.committer,
            dispatcher=self.dispatcher,
            make_whole=self._make_whole,
            on_restart=self._on_restart,
            on_stop=self._on_stop,
        )
        await asyncio.to_thread(vault.digests)  # kept in memory from here on

    # --- What a start has to finish ----------------------------------------------------------------------------------
    async def _make_whole(self) -> None:
        """Open a new bank, and finish what a crash may have left half done."""
        bank, queries = self.node.bank, self.node.bank.queries
        if not bank.state.administrators:
            await found(self.node, self.folder.settings.folder / BOOTSTRAP_FILE)
        await bank.open_settlements()
        for session, _ in await bank.read(queries.ended_sessions, now_us()):
            self.node.tokens.revoke(session, now_us())
        token_us = self.folder.settings.login.token_s * 1_000_000
        for customer, changed_us in await bank.read(queries.keys_given_up, now_us() - token_us):
            self.node.tokens.revoke_customer(customer, changed_us)
        for approval, operation, command, asked_by in await approvals.undone(bank):
            try:
                await approvals.carry_out(self.node, approval, operation, command, asked_by)
            except (Refused, UnknownOperation, Busy) as refusal:
                log_event(logger, logging.WARNING, "approved act refused", operation=operation, reason=str(refusal))
        await bank.read(self._erase_people)
        # Who signed in while this node was standby may have lost a role, or been signed out, on the other one since.
        self.server.end_signed_in()

    def _erase_people(self) -> None:
        """Destroy the keys of the erased, should a crash have come between the entry and that."""
        for handle in self.node.bank.queries.erased_handles():
            self.node.bank.vault.erase_person(handle)

    # --- Its role ----------------------------------------------------------------------------------------------------
    @property
    def is_primary(self) -> bool:
        """True while this node answers for its bank: always when it is alone."""
        return self.pairing is None or self.pairing.is_ready

    def attend(self, on_primary: Callable[[], None], on_leave: Callable[[], None]) -> None:
        """Call ``on_primary`` when this node begins to answer for its bank, now if it does, ``on_leave`` when it ends.

        Both are called on the loop, again and again, in turns; neither because the node stops.
        """
        if self.pairing is not None:
            self.pairing.on_primary.append(on_primary)
            self.pairing.on_leave.append(on_leave)
        if self.is_primary:
            on_primary()

    def _dismiss(self) -> None:
        """Tell parts nothing more about roles: they are stopped before the pair is."""
        if self.pairing is not None:
            self.pairing.on_primary.clear()
            self.pairing.on_leave.clear()

    # --- While it runs -----------------------------------------------------------------------------------------------
    async def _expire_holds(self) -> None:
        """Free holds whose time is over."""
        bank = self.node.bank
        while True:
            await asyncio.sleep(EXPIRE_EVERY_S)
            if self.dispatcher.gate.is_standby:
                continue  # the primary does it
            try:
                due = await bank.read(bank.queries.due_holds, now_us(), EXPIRE_AT_ONCE_MAX)
                commands = [ReleaseHold(BANK_ACTOR, id, int(HoldState.expired)) for id in due]
                await asyncio.gather(*map(bank.commit, commands))
            except RetryableError:
                continue  # the disk is full, or much waits: that is told elsewhere, and holds can wait
            except FortressError as error:
                self.fail(_as_fatal(error))
                return

    async def _warm_up(self) -> None:
        """Bring the accounts used lately into memory, a few at a time, so that customers need not wait for each."""
        bank = self.node.bank
        try:
            numbers = await bank.read(bank.queries.latest_accounts, self.folder.settings.ledger.account_cache_max // 2)
            for start in range(0, len(numbers), WARM_UP_AT_ONCE):
                await bank.fill(bank.state.want_accounts(numbers[start : start + WARM_UP_AT_ONCE]))
        except FortressError as error:
            self.fail(_as_fatal(error))

    async def _watch_books(self) -> None:
        """Add the books up, every minute."""
        bank = self.node.bank
        while True:
            try:
                sums = await bank.read(bank.queries.trial_balance)
            except FortressError as error:
                self.fail(_as_fatal(error))
                return
            self._imbalance = {currency: credits - debits for currency, _, debits, credits, *_ in sums}
            if any(self._imbalance.values()):
                self.fail(BooksBroken(f"debits and credits do not add up: {self._imbalance}"))
                return
            if off := {currency: (held, holds) for currency, *_, held, holds in sums if held != holds}:
                self.fail(BooksBroken(f"what accounts have on hold is not what the open holds add up to: {off}"))
                return
            await asyncio.sleep(BOOKS_EVERY_S)

    def fail(self, error: LedgerError) -> None:
        """Stop the node: what it knows can no longer be trusted to be what the disk knows."""
        if self.pairing is not None:
            self.pairing.fail(error)
        else:
            self._on_stop(error)

    def _is_disk_full(self) -> bool:
        return bool(self.committer.statistics()["disk_full"])

    def end(self) -> None:
        """Make the node end in order, whatever else wants it to start anew."""
        self._is_ending = True
        self.stopped.set()

    def _on_restart(self, restart: Restart) -> None:
        if not self._is_ending:
            self.restart = restart
        self.stopped.set()

    def _on_stop(self, error: FortressError) -> None:
        if self.failure is None:
            self.failure = error
            log_event(logger, logging.CRITICAL, "node stops", code=error.code, reason=str(error), hint=error.hint)
            self.stopped.set()

    def reload(self) -> None:
        """Read certificates, limits and log level again; connections that stand are not touched.

        Raises:
            SettingUnknown, SettingInvalid: the settings are not right; nothing was changed.
            CertificateUnusable: a certificate is missing or unreadable; the old ones stay in use.
        """
        waiting = self.folder.reload_settings()
        settings = self.folder.settings
        self.server.apply(settings)
        self.node.tokens.set_valid(settings.login.token_s)
        self.node.throttle.settings = settings.login
        logging.getLogger(logs.ROOT).setLevel(settings.log.level.upper())
        log_event(logger, logging.INFO, "settings reloaded", waiting_for_restart=", ".join(waiting))
        if self.pairing is not None:
            self.pairing.replication.apply(settings.pair)
        self.folder.load_certificates()
        self.server.identity_payload = self.folder.identity_payload
        self._certificate_expiry = _expiry_of(self.folder)
        log_event(logger, logging.INFO, "certificates reloaded")

    async def stop(self, *, deadline_s: float | None = None) -> None:
        """Answer what is under way, say goodbye, write everything, close; the folder is free afterwards."""
        if self._is_stopping:
            return
        self._is_stopping = True
        settings = self.folder.settings.server
        if self.pairing is not None and self.failure is None and self.restart is None:
            self.pairing.is_going_down = True
            await self.pairing.replication.leave()
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        if self.restart is not None:
            deadline_s = RESTART_DRAIN_S  # who waits here waits for nothing: another node is primary
        await self.server.drain(settings.drain_s if deadline_s is None else deadline_s)
        self.dispatcher.cancel_all()
        await self._opened.aclose()

    def commands(self) -> dict[str, Callable[..., Awaitable[dict[str, Any]]]]:
        """Give what an operator may ask by the socket in the folder: a name, and a function of keyword arguments."""

        async def status() -> dict[str, Any]:
            return dict(self.statistics())

        return {"status": status, **(self.pairing.commands() if self.pairing is not None else {})}

    def _standing(self) -> Standing:
        """Where this node stands in its pair, for whoever asks; while it starts it stands nowhere yet."""
        if self.pairing is None:
            return Standing("standby", self.node.bank.engine.epoch, 1, "recovering")
        found = self.pairing.statistics()
        return Standing(found["role"], found["term"], found["copies"], found["state"])

    # --- For the monitor ---------------------------------------------------------------------------------------------
    def statistics(self) -> dict[str, object]:
        """Take a snapshot of everything a monitor shows; cheap, no waiting."""
        committer, engine = self.committer, self.node.bank.engine
        status = self.node.status()
        counts = committer.statistics()
        return {
            **self.server.snapshot(),
            "bank": status.bank,
            "node": status.node,
            "version": __version__,
            "uptime_s": status.uptime_s,
            "role": status.role,
            "state": "alone",
            "term": status.term,
            "position": status.position,
            "lsn": status.lsn,
            "behind": 0,
            "copies": status.copies,
            "tasks_processed": status.tasks_processed,
            "commit_seconds": {
                "write": committer.write_seconds.statistics(),
                "apply": committer.apply_seconds.statistics(),
            },
            "queue": counts["waiting"],
            "unapplied_entries": counts["unapplied"],
            "imbalance": dict(self._imbalance),
            "memory_rss_bytes": _resident_bytes(),
            "certificate_expiry": self._certificate_expiry,
            "last_backup": status.backup_us / 1e6 or None,
            "last_backup_position": status.backup_position,
            "checks": {
                "ledger": (
                    not counts["failed"],
                    "the ledger is whole" if not counts["failed"] else "the node has stopped",
                ),
                "disk": (not counts["disk_full"], "there is space" if not counts["disk_full"] else "the disk is full"),
                "primary": (True, "this node takes entries"),
            },
            "segments_first_lsn": engine.journal.first_lsn,
            **(self.pairing.statistics() if self.pairing is not None else {}),
            **{name: value for part in self._parts for name, value in part.statistics().items()},
        }


def _open_engine(folder: Folder, on_progress: Callable[[int, int], None]) -> Engine:
    settings, ledger = folder.settings, folder.settings.ledger
    return Engine.open(
        data_folder(settings),
        bank=settings.node.bank,
        data_key=folder.keyring.data_key,
        store_key=folder.keyring.store_key,
        segment_bytes=ledger.segment_bytes,
        cache_mb=ledger.cache_mb,
        checkpoint_pages=ledger.checkpoint_pages,
        account_cache_max=ledger.account_cache_max,
        id_cache_max=ledger.id_cache_max,
        id_skew_s=ledger.id_skew_s,
        is_in_pair=bool(settings.pair.peer),
        on_progress=on_progress,
    )


def _open_vault(path: Path, key: bytes, engine: Engine) -> Vault:
    """Open people's keys; a bank that has begun and has none lost them, and an empty file would hide that."""
    if engine.state.position and not path.exists():
        message = f"{str(path)!r} is missing: people's own keys are in it and nowhere else; restore it from a backup"
        raise KeyUnusable(message, {"file": str(path)})
    return Vault(path, key)


def _expiry_of(folder: Folder) -> float:
    data = folder.settings.path(folder.settings.tls.certificate).read_bytes()
    return x509.load_pem_x509_certificate(data).not_valid_after_utc.timestamp()


def _as_fatal(error: FortressError) -> LedgerError:
    return error if isinstance(error, LedgerError) else LedgerError(error.message)


def _resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _open_control(folder: Folder) -> Control | None:
    """Open what a member of a pair must not forget; a node alone does not load any of that."""
    if not folder.settings.pair.peer:
        return None
    from fortress.server.membership import open_control

    return open_control(folder)
