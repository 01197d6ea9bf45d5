"""A node as a member of a pair: what replication asks of it, done with committer, gate and files.

Everything a change of role needs is here, and it is little: the committer takes commands or refuses them, the gate
lets requests pass or not, and what a start has to finish is finished again by every new primary. Where something would
have to be forgotten, as after being fenced with a record that nobody acknowledged, nothing is mended in place: the node
closes everything and starts anew from its disk, as it does after a crash.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from fortress.config import PairSettings
from fortress.errors import Busy, FortressError, LedgerError, NoPrimary, Quarantined, RetryableError
from fortress.ledger.engine import Engine
from fortress.ledger.records import Record
from fortress.pair import role
from fortress.pair.chronicle import Chronicle
from fortress.pair.control import Control
from fortress.pair.events import Wish
from fortress.pair.messages import Mark
from fortress.pair.replication import Replication
from fortress.pair.role_state import Phase
from fortress.server.gate import NEVER_NS
from fortress.server.handlers import Dispatcher
from fortress.server.logs import log_event
from fortress.server.member_committer import MemberCommitter
from fortress.server.replica import Replica

DISK_WATCH_S: Final = 1.0
DISK_WAIT_S: Final = 60.0
READY_RETRY_S: Final = 1.0
PROXY_S: Final = 2.0
"""How long a node whose disk failed tries to make the other one primary before it stops."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Restart:
    """Why and how a node starts anew.

    Attributes:
        reason: for people.
        truncate_after: where its journal has to be cut off first; None: nowhere.
    """

    reason: str
    truncate_after: Mark | None = None


class Pairing:
    """What replication sees of this node (`fortress.pair.host.Host`).

    Args:
        settings: of the pair.
        engine: the ledger.
        replica: its records.
        committer: judges, as primary.
        dispatcher: whose gate is opened and closed.
        control: this node's promises.
        chronicle: the log of events.
        make_whole: finishes what a crash may have left half done; awaited before a new primary answers anybody.
        on_restart: told when this node must close and start anew.
        on_stop: told the error after which it must stop.

    Attributes:
        replication: set before `start`.
        failovers: how often this node took over.
        is_primary: whether this node acts as primary.
        is_ready: whether it has finished as such what was left undone, and answers.
        on_primary: called when it has.
        on_leave: called when it is primary no longer, if it was ready.
        is_going_down: whether this node is about to end; then it does not start anew, whatever happens.
        unavailable_s: seconds without a primary that this node saw as it took over.
    """

    def __init__(
        self,
        settings: PairSettings,
        *,
        engine: Engine,
        replica: Replica,
        committer: MemberCommitter,
        dispatcher: Dispatcher,
        control: Control,
        chronicle: Chronicle,
        make_whole: Callable[[], Awaitable[None]],
        on_restart: Callable[[Restart], None],
        on_stop: Callable[[FortressError], None],
    ) -> None:
        self.replication: Replication
        self.failovers = 0
        self.unavailable_s = 0.0
        self._settings = settings
        self._engine = engine
        self._replica = replica
        self._committer = committer
        self._gate = dispatcher.gate
        self._control = control
        self._chronicle = chronicle
        self._make_whole = make_whole
        self._on_restart = on_restart
        self._on_stop = on_stop
        self.is_primary = False
        self.is_ready = False
        self.on_primary: list[Callable[[], None]] = []
        self.on_leave: list[Callable[[], None]] = []
        self._is_ended = False
        self.is_going_down = False
        self._is_failing = False
        self._is_busy = False
        self._readying: asyncio.Task[None] | None = None
        self._busy_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._follow("")

    # --- Roles ----
    def serve(self, epoch: int) -> None:
        """Be primary of this epoch: at once if this node is already, else when what was left undone is finished."""
        if self._replica.is_storing:
            self.start_chore(self._serve_once_stored(epoch))
            return
        self._replica.follow_all()
        self._engine.epoch = epoch
        self._committer.take_commands()
        if not self.is_primary:
            self.is_primary = True
            self._readying = self.start_chore(self._become_ready())

    async def _serve_once_stored(self, epoch: int) -> None:
        """Wait for this node's own disk: what it took as standby comes before anything it makes as primary."""
        while self._replica.is_storing:
            await asyncio.sleep(0.002)
        if role.is_primary(self.replication.state) and self.replication.state.promised == epoch:
            self.serve(epoch)

    async def _become_ready(self) -> None:
        """Finish what was left undone, however often that must be begun: the disk may be full, the other node away."""
        while not self.is_ready:
            try:
                await self._make_whole()
                self.is_ready = True
            except RetryableError as error:
                log_event(logger, logging.WARNING, "not ready yet", reason=error.message)
                await asyncio.sleep(READY_RETRY_S)
            except FortressError as error:
                self.fail(error if isinstance(error, LedgerError) else LedgerError(error.message))
                return
        self.allow_reads(self.replication.readable_until_us)
        for begin in self.on_primary:
            begin()

    def hold(self) -> None:
        """Keep new commands waiting."""
        self._committer.hold()

    async def quiet(self) -> None:
        """Wait until all that was begun is committed."""
        while not self._committer.is_quiet:
            await asyncio.sleep(0.001)

    def set_blocked(self, *, is_blocked: bool) -> None:
        """While nothing can be committed requests wait, but not for ever."""
        if self._busy_timer is not None:
            self._busy_timer.cancel()
            self._busy_timer = None
        if is_blocked:
            self._busy_timer = asyncio.get_running_loop().call_later(self._settings.hold_s, self._be_busy)
        elif self._is_busy and self.is_primary:
            self._is_busy = False
            self._committer.take_commands()

    def _be_busy(self) -> None:
        self._is_busy = True
        error = Busy("the other node and the register do not answer, so nothing can be committed")
        self._committer.refuse_commands(error)
        self._gate.refuse_parked(error)

    def stand_by(self, *, is_clean: bool, primary: str) -> None:
        """Take no commands any more; if something would have to be forgotten, start anew."""
        was_ready = self.is_ready
        self.is_primary = self.is_ready = self._is_busy = False
        if self._readying is not None:
            self._readying.cancel()  # should this node be primary again, it begins anew
        if was_ready:
            for leave in self.on_leave:
                leave()
        is_clean = is_clean and self._replica.is_clean
        self._follow(primary)
        if not is_clean:
            self.restart("this node was primary and has records that nobody acknowledged")

    def follow(self, primary: str) -> None:
        """As standby: know where the primary is; empty when nobody is heard."""
        if not self.is_primary:
            self._follow(primary)

    def _follow(self, primary: str) -> None:
        refusal = self._replica.refusal(primary)
        self._committer.refuse_commands(refusal)
        self._gate.close(refusal)

    # --- Records ----
    def store(self, records: list[Record]) -> None:
        """Write records of the primary."""
        self._replica.store(records)

    def commit(self, lsn: int) -> None:
        """Take it that everything up to this record is committed."""
        self._replica.commit(lsn)

    def heard(self, committed: int) -> None:
        """As standby: the primary said how far all is committed; whether this node has all that, it can tell."""
        if committed <= self._committer.committed_lsn:
            # not when it came: it may have been on its way for long, or this process may have stood still
            self._gate.fresh_ns = max(self._gate.fresh_ns, self.replication.fresh_us * 1000 or NEVER_NS)
        self._gate.committed_position = self._committer.committed_position

    def allow_reads(self, until_us: int) -> None:
        """Answer from memory up to this time."""
        if self.is_ready:
            self._gate.open_until(until_us * 1000)

    # --- Ends ----
    def restart(self, reason: str, *, truncate_after: Mark | None = None) -> None:
        """Close everything and start anew; a node that goes down leaves that to its next start."""
        if not self._is_ended and not self.is_going_down:
            self._is_ended = True
            self.replication.is_halted = True
            self.tell("restarting", {"reason": reason})
            self._on_restart(Restart(reason, truncate_after))

    def quarantine(self, reason: str) -> None:
        """Stop; a start is refused until the data was rebuilt from the other node."""
        if self._is_ended:
            return
        self._is_ended = True
        try:
            self._control.quarantine(reason)
        except FortressError as error:
            log_event(logger, logging.ERROR, "quarantine not written", reason=error.message)
        self.tell("quarantined", {"reason": reason})

        async def stop() -> None:
            await self.replication.errands.settle(PROXY_S)  # the register is told first who is primary now
            self._on_stop(Quarantined(f"this node's data cannot be trusted: {reason}"))

        self.start_chore(stop())

    def crash(self, error: BaseException) -> None:
        """Stop at once; the next start begins from the disk."""
        if not self._is_ended:
            self._is_ended = True
            self._follow("")
            self._on_stop(LedgerError(f"the pair's part of this node failed: {error!r}"))

    def fail(self, error: LedgerError) -> None:
        """Its disk or its books failed: let the other node be primary if it has everything, then stop.

        A primary whose disk is the only one that counts stops as a node alone does: nobody could rebuild it.
        """
        if self._is_ended or self._is_failing:
            return
        self._is_failing = self.is_going_down = True
        self._follow("")
        log_event(logger, logging.CRITICAL, "ledger failed", code=error.code, reason=str(error), hint=error.hint)

        async def stop() -> None:
            lead = self.replication.state.lead
            if lead is None or lead.is_paired:
                self.replication.wish(Wish.storage_failed)  # which ends in quarantine
            if not self._is_ended:
                self._is_ended = True
                self._on_stop(error)

        self.start_chore(stop())

    def tell(self, name: str, facts: dict[str, str | int]) -> None:
        """Write an event down, for people and for the log."""
        log_event(logger, logging.INFO, name.replace("_", " "), **facts)
        if name == "phase":
            return  # what led to it is an event of its own
        self._chronicle.write(name, epoch=self._control.promised, facts=facts)
        if name == "takeover":
            self.failovers += 1
            self.unavailable_s += int(facts.get("silent_ms", 0)) / 1000

    async def stop(self) -> None:
        """End the pair's part of this node."""
        self._is_ended = True
        self._follow("")  # nothing can be committed from here on, so nobody waits for it
        if self._busy_timer is not None:
            self._busy_timer.cancel()
        await self.replication.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._control.close()

    def start_chore(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something beside, until this node stops; a fault in it ends the node."""

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (fault := task.exception()) is not None:
                logger.error("a chore of the pair failed", exc_info=fault)
                self.crash(fault)

        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(ended)
        return task

    async def watch_disk(self, is_low: Callable[[], bool]) -> None:
        """Hand over when this node's disk is nearly full, as long as the other one's may have room."""
        while True:
            await asyncio.sleep(DISK_WATCH_S)
            if is_low() and self.is_ready:
                try:
                    await self.replication.switch_over(Wish.disk_low)
                except (NoPrimary, Busy) as error:
                    log_event(logger, logging.WARNING, "not handed over", reason=error.message)
                await asyncio.sleep(DISK_WAIT_S)

    # --- For operators ----
    def commands(self) -> dict[str, Callable[..., Awaitable[dict[str, Any]]]]:
        """Give what an operator may ask of this node (`fortress.server.operations`)."""

        async def switchover() -> dict[str, Any]:
            await self.replication.switch_over()
            return self.statistics()

        async def failover() -> dict[str, Any]:
            await self.replication.take_over()
            return self.statistics()

        async def pause() -> dict[str, Any]:
            self.replication.wish(Wish.pause)
            return self.statistics()

        async def resume() -> dict[str, Any]:
            self.replication.wish(Wish.resume)
            return self.statistics()

        return {"switchover": switchover, "failover": failover, "pause": pause, "resume": resume}

    # --- For the monitor ----
    def statistics(self) -> dict[str, Any]:
        """Tell role, phase, the other node and the register."""
        found = self.replication
        state, sight = found.state, found.sight
        is_primary = role.is_primary(state)
        now_us = time.monotonic_ns() // 1000
        peer = {
            "name": sight.member.name if sight.member else "",
            "address": self._settings.peer_clients,
            "seen_s": round((now_us - sight.seen_us) / 1e6, 3) if sight.seen_us else None,
            "durable": sight.durable,
            "applied": sight.applied,
        }
        return {
            "role": "primary" if is_primary else "standby",
            "state": state.phase.value,
            "term": state.promised,
            "copies": 2 if state.phase is Phase.primary_paired else 1,
            "behind": found.behind,
            "failovers": self.failovers,
            "unavailable_s": self.unavailable_s,
            "peer": peer,
            "register": {"kind": self._settings.register, "reachable": found.is_register_reachable},
        }
