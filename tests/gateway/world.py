"""A world of two banks and a gateway in which anything may be lost, doubled or late and anybody may crash, at any step.

The machines are the real ones (`fortress.gateway.payment`, `.participant`), and so are the ledger's rules and the state
they judge on; simulated are the network, the disks, the clock and the customers. One thing happens after the other, at
times that follow from nothing but what happened before, so a run is told by its faults alone: ``{step: fault}``.

A step is the delivery of one message, one judgement, one durable write, one answer of a ledger to a machine, one tick
of a machine's clock. Before a step and after it the party may crash: it loses what is not durable, its machines, and
the messages to it until it is back, as a new primary that knows its ledger and nothing else. A write makes durable what
was judged up to then, as a group commit does; what was judged and not written is lost with the party. A ledger may be
too busy to judge, and a write may be slow.

While it runs the world compares the three ledgers at every write; what a customer is told is held against them at that
moment, and once more at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from dataclasses import replace as changed
from functools import cache
from heapq import heappop, heappush
from operator import attrgetter
from typing import Any

from fortress.errors import Busy, FortressError, Status
from fortress.gateway import messages
from fortress.gateway.messages import Message, Prepare, Submit
from fortress.gateway.participant import Incoming, Leg, Order, OrderPhase, Outgoing
from fortress.gateway.participant import attempt_id as _attempt_id
from fortress.gateway.payment import Payment
from fortress.ledger import acts
from fortress.ledger.commands import AbortPayment, CommitPayment, PlacePayment
from fortress.ledger.delta import Delta
from fortress.ledger.entries import HoldPlaced, HoldReleased, Posted, Refused
from fortress.ledger.model import SWITCH_ACTOR, Account, AccountKind, Actor, Hold, HoldState
from fortress.ledger.state import State
from tests.ledger.books_fixture import NOW_US, uid

MS, SECOND = 1_000, 1_000_000
LATENCY_US = MS
WRITE_US = MS
# shorter than in a bank, and in the same order: takeover, customer, deadline, outage, ghost
DOWN_US = {"short": 700 * MS, "long": 8 * SECOND}
WAIT_US = SECOND  # how long a bank lets its customer wait
PATIENCE_US = 1500 * MS  # how long a customer waits for the bank
REPEAT_US = 5 * SECOND
DEADLINE_US = 3 * SECOND
OVERTAKEN_US, LATE_US = 5 * MS, 10 * SECOND
SLOW_US = 4 * SECOND  # a write while all others lose patience
STEPS_MAX, ASKS_MAX, ATTEMPTS_MAX = 20_000, 300, 1_000

MESSAGE_FAULTS = ("lost", "twice", "echo", "overtaken", "late")
CRASHES = tuple(f"crash {when} {down}" for when in ("before", "after") for down in DOWN_US)
DELIVERY = MESSAGE_FAULTS + CRASHES
WRITING = ("slow", *CRASHES)
JUDGING = ("busy",)
ANSWERING = ("lost", "late")

PAYMENT = uid(NOW_US)
AMOUNT = 500
MONEY = 2_000
CUSTOMER = Actor(1, frozenset(("customer",)))
# account numbers: the same in all ledgers, which know nothing of each other
CASH, SETTLEMENT, ALICE, BOB, DOLLARS, POSITION_A, POSITION_B = 101, 102, 103, 104, 105, 201, 202
POSITIONS = {"a": POSITION_A, "b": POSITION_B}
_OPEN, _POSTED, _VOIDED = int(HoldState.open), int(HoldState.posted), int(HoldState.voided)
NEVER_US = 2**63 - 1
_NAMES = {int(status): status.name for status in Status}
_fields_of = attrgetter(*Account.__slots__)


@cache
def attempts_of(payment: bytes) -> list[bytes]:
    """Give the ids of a payment's attempts."""
    return [_attempt_id(payment, attempt) for attempt in range(ATTEMPTS_MAX)]


class Violation(AssertionError):
    """What must never be, was."""


@dataclass
class Ledger:
    """One party's books: what is durable, and the working state judged on top of it."""

    accounts: tuple[Account, ...]
    durable: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.opened_at_us = 0  # before that every id of now lies too far ahead for its clock
        self.load()

    def load(self) -> None:
        """Begin with what is durable, as after a crash."""
        self.state = State()
        self.state.currencies = {"EUR": CASH, "USD": CASH + 50}
        self.state.settlements = {"EUR": SETTLEMENT}
        accounts = self.state.accounts.newer
        for account in self.accounts:
            accounts[account.number] = Account(*_fields_of(account))
        self.delta = Delta()
        self.pending: list[Any] = []
        for entry in self.durable:
            self.state.apply(entry, self.delta)

    def judge(self, command: Any, now_us: int) -> Any:
        """Judge and apply, as the engine does; what is written is pending."""
        self.state.id_ahead = b"\xff" * 16 if now_us >= self.opened_at_us else bytes(16)
        verdict = acts.JUDGES[type(command)](self.state, command, now_us)
        if verdict.entry is not None and not verdict.replayed:
            verdict.position = self.state.apply(verdict.entry, self.delta)
            self.pending.append(verdict.entry)
        return verdict

    def balance(self, number: int) -> int:
        account = self.state.account(number)
        assert account is not None
        return account.balance

    def open_holds(self) -> list[tuple[Hold, HoldPlaced]]:
        """What whoever becomes primary reads first."""
        found = []
        for entry in self.durable:
            if type(entry) is HoldPlaced:
                hold = self.state.hold(entry.id)
                assert hold is not None
                if hold.state == _OPEN:
                    found.append((hold, entry))
        return found


class Facts:
    """What one party's durable entries say of each attempt."""

    def __init__(self) -> None:
        self.placed: set[bytes] = set()
        self.posted: dict[bytes, Posted] = {}
        self.closed: dict[bytes, int] = {}  # given up or refused, with the reason


class Party:
    """One of the three: a ledger that stays, and all else, which does not."""

    def __init__(self, world: World, name: str, accounts: tuple[Account, ...]) -> None:
        self.world = world
        self.name = name
        self.ledger = Ledger(accounts)
        self.facts = Facts()
        self.is_up = True
        self.life = 0
        self.disputes: list[int] = []
        self.begin()

    def begin(self) -> None:
        """Start with no machine."""
        self.answers: list[Callable[[], None]] = []
        self.is_writing = False
        self.tick_us = NEVER_US

    # --- Its disk ----------------------------------------------------------------------------------------------------
    def submit(self, command: Any, answered: Callable[[Any, Hold | None, int], None]) -> None:
        """Judge now; answer once it is durable. A ledger that is busy judges nothing."""
        if self.world.fault(JUDGING, self, "judge"):
            self.world.after(0, self, lambda: answered(Busy(), None, self.world.now_us))
            return
        verdict = self.ledger.judge(command, self.world.now_us)
        id = command.id
        self.answers.append(lambda: answered(verdict, self.ledger.state.hold(id), self.world.now_us))
        if not self.is_writing:
            self.is_writing = True
            self.world.after(WRITE_US, self, self.write)

    def write(self) -> None:
        """Make everything that was judged durable; the answers come one after the other."""
        self.is_writing = False
        ledger = self.ledger
        entries, ledger.pending = ledger.pending, []
        for entry in entries:
            ledger.durable.append(entry)
            self.world.written(self, entry)
        answers, self.answers = self.answers, []
        for answer in answers:
            self.world.after(0, self, answer)

    # --- Its life ----------------------------------------------------------------------------------------------------
    def crash(self) -> None:
        self.is_up = False
        self.life += 1
        self.begin()

    def machines(self) -> list[Any]:
        raise NotImplementedError

    def is_due(self) -> bool:
        """Tell whether a machine wants the time that it is now."""
        now_us = self.world.now_us
        return any(machine.due_us <= now_us for machine in self.machines())

    def tick(self) -> None:
        """Give the time to every machine that wants it."""
        self.tick_us = NEVER_US
        now_us = self.world.now_us
        for machine in self.machines():
            if machine.due_us <= now_us:
                machine.ticked(now_us)

    def arm(self) -> None:
        """Be called when the next machine wants it."""
        due_us = min((machine.due_us for machine in self.machines()), default=NEVER_US)
        if due_us < self.tick_us:
            self.tick_us = due_us
            self.world.after(max(0, due_us - self.world.now_us), self, self.tick)


class Bank(Party):
    """A bank: its ports are this object."""

    def begin(self) -> None:
        super().begin()
        self.legs: dict[bytes, Leg] = {}
        self.orders: dict[Order, tuple[Customer, int]] = {}
        self.is_connected = False

    def machines(self) -> list[Any]:
        return [*self.legs.values(), *self.orders]

    def restart(self) -> None:
        """Find all that is open."""
        self.ledger.load()
        for hold, entry in self.ledger.open_holds():
            leg: Leg
            if hold.debit == SETTLEMENT:
                leg = Incoming(self, hold.id, self.world.now_us)
            else:
                bank, _, number = entry.counterparty.partition("/")
                submit = Submit(hold.id, hold.debit, bank, int(number), hold.amount, hold.currency, hold.reference)
                leg = Outgoing(self, submit, self.world.now_us)
            self.legs[hold.id] = leg
            leg.recover(self.world.now_us)

    def connected(self) -> None:
        self.is_connected = True
        for leg in list(self.legs.values()):
            leg.connected(self.world.now_us)

    def receive(self, message: Message) -> None:
        """Take a message of the gateway."""
        now_us = self.world.now_us
        leg = self.legs.get(message.id)
        if type(message) is Prepare:
            if leg is not None:
                leg.prepared(message)
            else:
                leg = self.legs[message.id] = Incoming.begin(self, message, now_us)
                leg.place()
            return
        assert type(message) is messages.Outcome
        if leg is None:
            leg = self.legs[message.id] = Incoming(self, message.id, now_us)
        leg.outcome(message.sequence, message.reason)

    def pay(self, customer: Customer, ask: int) -> None:
        """Take a customer's order."""
        order = Order(self, customer.payment, self.world.now_us + WAIT_US)
        self.orders[order] = (customer, ask)
        order.begin()

    # --- Ports -------------------------------------------------------------------------------------------------------
    def send(self, message: Message) -> None:
        if self.is_connected:
            self.world.send(self, self.world.gateway, message)

    def place_incoming(self, leg: Incoming) -> None:
        p = leg.prepare
        assert p is not None
        counterparty = f"{p.payer_bank}/{p.payer}"
        command = PlacePayment(
            *(SWITCH_ACTOR, p.id, SETTLEMENT, p.payee, p.amount, p.currency, counterparty, p.reference)
        )
        self.submit(command, leg.placed)

    def commit(self, leg: Leg) -> None:
        self.submit(CommitPayment(SWITCH_ACTOR, leg.id, leg.sequence), leg.ended)

    def abort(self, leg: Leg) -> None:
        self.submit(AbortPayment(SWITCH_ACTOR, leg.id, leg.reason), leg.ended)

    def dispute(self, leg: Leg, status: int) -> None:
        self.disputes.append(status)

    def forget(self, leg: Leg) -> None:
        if self.legs.get(leg.id) is leg:
            del self.legs[leg.id]

    def look(self, order: Order) -> None:
        is_known = self.ledger.state.known(order.id) is not None
        self.world.after(0, self, lambda: order.looked(is_known=is_known))

    def place(self, order: Order) -> None:
        c = self.orders[order][0]
        command = PlacePayment(CUSTOMER, order.id, c.debit, SETTLEMENT, c.amount, "EUR", c.payee, "rent")
        self.submit(command, order.placed)

    def leg_of(self, order: Order) -> Outgoing | None:
        leg = self.legs.get(order.id)
        return leg if isinstance(leg, Outgoing) else None

    def open_leg(self, order: Order) -> Outgoing:
        c = self.orders[order][0]
        bank, _, number = c.payee.partition("/")
        submit = Submit(order.id, c.debit, bank, int(number), c.amount, "EUR", "rent")
        leg = self.legs[order.id] = Outgoing(self, submit, self.world.now_us)
        return leg

    def answer_paid(self, order: Order, position: int, posted: Posted | None) -> None:
        if posted is not None and self.ledger.durable[position - 1] is not posted:
            raise Violation("the entry that was told is not the one at its position")
        self._answer(order, "paid")

    def answer_refused(self, order: Order, status: int, facts: Any) -> None:
        self._answer(order, f"refused {_NAMES.get(status, status)}")

    def answer_error(self, order: Order, error: FortressError | int) -> None:
        self._answer(order, f"error {error if isinstance(error, int) else error.code}")

    def _answer(self, order: Order, answer: str) -> None:
        customer, ask = self.orders[order]
        self.world.told(self, customer, order, answer)
        self.world.answer(self, customer, ask, answer)


class Gateway(Party):
    """The gateway: its ports are this object."""

    def begin(self) -> None:
        super().begin()
        self.payments: dict[bytes, Payment] = {}
        self.connected_banks: set[str] = set()
        self.suspended: set[str] = set()

    def machines(self) -> list[Any]:
        return list(self.payments.values())

    def restart(self) -> None:
        """Give up all that is not decided."""
        self.ledger.load()
        for hold, entry in self.ledger.open_holds():
            payer, payee = (side.partition("/")[0] for side in entry.counterparty.split(">"))
            payment = self.payments[hold.id] = Payment(self, hold.id, payer, payee, self.world.now_us)
            payment.recover()

    def connected(self, bank: str) -> None:
        self.connected_banks.add(bank)
        for payment in list(self.payments.values()):
            payment.connected(bank, self.world.now_us)

    def receive(self, bank: str, message: Message) -> None:
        """Take a message of a bank."""
        if type(message) is messages.Inquire:
            for id in message.ids:
                self._inquired(bank, id)
            return
        payment = self.payments.get(message.id)
        if type(message) is Submit:
            if payment is not None:
                payment.submitted(bank, message)
            else:
                now_us = self.world.now_us
                payment = Payment(
                    *(self, message.id, bank, message.payee_bank, now_us), submit=message, deadline_us=DEADLINE_US
                )
                self.payments[message.id] = payment
                payment.begin()
        elif payment is not None:
            if type(message) is messages.Vote:
                payment.voted(bank, message.reason)
            else:
                payment.acknowledged(bank)

    def _inquired(self, bank: str, id: bytes) -> None:
        payment = self.payments.get(id)
        if payment is not None:
            payment.inquired(bank)
        else:
            payment = self.payments[id] = Payment(self, id, "", bank, self.world.now_us)
            payment.inquire()

    # --- Ports -------------------------------------------------------------------------------------------------------
    def objection(self, payment: Payment) -> int:
        if payment.payee not in POSITIONS:
            return int(Status.payee_bank_unknown)
        if {payment.payer, payment.payee} & self.world.suspended:
            return int(Status.bank_suspended)
        return 0 if payment.payee in self.connected_banks else 3011

    def place(self, payment: Payment) -> None:
        s = payment.submit
        assert s is not None
        counterparty = f"{payment.payer}/{s.payer}>{payment.payee}/{s.payee}"
        debit, credit = POSITIONS[payment.payer], POSITIONS[payment.payee]
        command = PlacePayment(SWITCH_ACTOR, payment.id, debit, credit, s.amount, s.currency, counterparty)
        self.submit(command, payment.placed)

    def commit(self, payment: Payment) -> None:
        self.submit(CommitPayment(SWITCH_ACTOR, payment.id), payment.ended)

    def abort(self, payment: Payment) -> None:
        self.submit(AbortPayment(SWITCH_ACTOR, payment.id, payment.reason), payment.ended)

    def send(self, bank: str, message: Message) -> None:
        if bank in self.connected_banks:
            self.world.send(self, self.world.banks[bank], message)

    def forget(self, payment: Payment) -> None:
        if self.payments.get(payment.id) is payment:
            del self.payments[payment.id]


@dataclass(eq=False)
class Customer:
    """Somebody who wants one payment done, and repeats it with the same id until the answer is definite."""

    bank: str = "a"
    payment: bytes = PAYMENT
    debit: int = ALICE
    payee: str = f"b/{BOB}"
    amount: int = AMOUNT
    at_us: int = 0
    answer: str = ""
    asks: int = 0
    answered_asks: set[int] = field(default_factory=set)
    told: list[tuple[str, bytes, int]] = field(default_factory=list)  # answer, id and number of the order's attempt


@dataclass(frozen=True)
class Scenario:
    """What is so, and what happens besides the faults.

    Attributes:
        expected: the answers that each customer may get in the end.
        accounts: of the banks' customers and positions, as they differ from the usual.
        events: at which time (µs from the beginning) something is done to the world.
        disputes: whether outcomes that contradict the books are part of it.
    """

    customers: tuple[Callable[[], Customer], ...] = (Customer,)
    expected: tuple[frozenset[str], ...] = (frozenset({"paid"}),)
    accounts: tuple[tuple[str, int, dict[str, Any]], ...] = ()
    events: tuple[tuple[int, Callable[[World], None]], ...] = ()
    suspended: frozenset[str] = frozenset()
    has_disputes: bool = False


def _bank_accounts() -> dict[int, Account]:
    customer, settlement = int(AccountKind.customer), int(AccountKind.settlement)
    return {
        SETTLEMENT: Account(SETTLEMENT, 0, settlement, "EUR", floor=None),
        ALICE: Account(ALICE, 1, customer, "EUR", credits_posted=MONEY),
        BOB: Account(BOB, 1, customer, "EUR", credits_posted=MONEY),
        DOLLARS: Account(DOLLARS, 1, customer, "USD"),
        CASH: Account(CASH, 0, int(AccountKind.cash), "EUR", floor=None, debits_posted=2 * MONEY),
    }


def _gateway_accounts() -> dict[int, Account]:
    position = int(AccountKind.position)
    return {
        POSITION_A: Account(POSITION_A, -1, position, "EUR", floor=-MONEY),
        POSITION_B: Account(POSITION_B, -2, position, "EUR", floor=-MONEY),
    }


_ACCOUNTS = {"a": _bank_accounts(), "b": _bank_accounts(), "g": _gateway_accounts()}


class World:
    """One run; :meth:`run` goes to the end, where all is quiet.

    Attributes:
        options: for each step the faults that it may have; a step's number is its place here.
        is_thorough: whether the journals are replayed at the end, also those of parties that did not crash.
    """

    def __init__(
        self, scenario: Scenario, faults: dict[int, str], *, is_traced: bool = False, is_thorough: bool = False
    ) -> None:
        self.scenario = scenario
        self.faults = faults
        self.draw = getattr(faults, "draw", None)  # faults that are made up on the way
        self.options: list[tuple[str, ...]] = []
        self.trace: list[str] | None = [] if is_traced else None
        self.is_thorough = is_thorough
        self.now_us = NOW_US
        self._queue: list[tuple[int, int, Party | None, int, Any]] = []
        self._serial = 0
        self.is_faulty = True
        accounts = _ACCOUNTS
        if scenario.accounts:
            accounts = {party: dict(found) for party, found in accounts.items()}
            for party, number, fields in scenario.accounts:
                accounts[party][number] = changed(accounts[party][number], **fields)
        self.gateway = Gateway(self, "g", tuple(accounts["g"].values()))
        self.banks = {name: Bank(self, name, tuple(accounts[name].values())) for name in ("a", "b")}
        self.parties: tuple[Party, ...] = (*self.banks.values(), self.gateway)
        self.suspended = set(scenario.suspended)
        for bank in self.banks.values():
            self._connect(bank)
        self.customers = [made() for made in scenario.customers]
        for customer in self.customers:
            self._ask(customer, customer.at_us)
        for time_us, event in scenario.events:
            self._push(NOW_US + time_us, None, lambda event=event: event(self))

    # --- Time --------------------------------------------------------------------------------------------------------
    def _push(self, time_us: int, party: Party | None, what: Any) -> None:
        self._serial += 1
        heappush(self._queue, (time_us, self._serial, party, party.life if party is not None else 0, what))

    def after(self, pause_us: int, party: Party, what: Callable[[], None]) -> None:
        """Do something at a party later, unless it crashes before."""
        self._push(self.now_us + pause_us, party, what)

    def run(self) -> World:
        """Let happen what happens, until nothing is left to happen; then look at it all.

        Raises:
            Violation: something is not as it must be.
        """
        self._go()
        self.is_faulty = False
        self._check_the_end()
        for customer in self.customers:
            self._check_repeat(customer)
        return self

    def _go(self) -> None:
        for _ in range(STEPS_MAX):
            if not self._queue:
                return
            self.now_us, _, party, life, what = heappop(self._queue)
            if party is None:
                what()
            elif party.is_up and party.life == life:
                if what != party.tick or party.is_due():
                    self._step(party, what, what.__name__.replace("<lambda>", "answer"))
                else:  # what it was armed for has come to an end: no step
                    party.tick_us = NEVER_US
                party.arm()
        raise Violation("it does not come to rest")

    def _step(self, party: Party, what: Callable[[], None], name: str) -> None:
        """Do one step, with the fault that the run has for it."""
        fault = self.fault(WRITING if name == "write" else CRASHES, party, name)
        if not fault:
            what()
            return
        if fault == "slow":
            self.after(SLOW_US, party, what)
            return
        _, when, down = fault.split(" ", 2)
        if when == "after":
            what()
        self.crash(party, DOWN_US[down])

    def fault(self, options: tuple[str, ...], party: Party | None, name: str) -> str:
        """Count one more thing that may go wrong in these ways; give the way in which it does, or nothing."""
        if not self.is_faulty:
            return ""
        self.options.append(options)
        step = len(self.options) - 1
        fault = self.faults.get(step, "") if self.draw is None else self.draw(step, options)
        if self.trace is not None:
            where = party.name if party is not None else "customer"
            time_s = (self.now_us - NOW_US) / SECOND
            self.trace.append(f"{step:4} {time_s:10.3f} s {where:8} {name} {fault and '<< ' + fault}")
        return fault

    # --- Crashes and links -------------------------------------------------------------------------------------------
    def crash(self, party: Party, down_us: int) -> None:
        """Take a party down, and bring it back later."""
        party.crash()
        if party is self.gateway:
            for bank in self.banks.values():
                bank.is_connected = False
        else:
            self.gateway.connected_banks.discard(party.name)
        self._push(self.now_us + down_us, None, lambda: self._return(party))

    def _return(self, party: Any) -> None:
        party.is_up = True
        party.restart()
        party.arm()
        for bank in self.banks.values():
            if party in (bank, self.gateway):
                self._push(self.now_us + 100 * MS, None, lambda bank=bank: self._connect(bank))

    def _connect(self, bank: Bank) -> None:
        if bank.is_up and self.gateway.is_up and not bank.is_connected:
            self.gateway.connected(bank.name)
            bank.connected()
            self.gateway.arm()
            bank.arm()

    # --- Messages ----------------------------------------------------------------------------------------------------
    def send(self, sender: Party, receiver: Any, message: Message) -> None:
        """Put a message on its way."""
        self._push(self.now_us + LATENCY_US, None, lambda: self._deliver(sender, receiver, message))

    def _deliver(self, sender: Party, receiver: Any, message: Message) -> None:
        def again(pause_us: int) -> None:
            self._push(self.now_us + pause_us, None, lambda: self._deliver(sender, receiver, message))

        def take() -> None:
            if receiver is self.gateway:
                receiver.receive(sender.name, message)
            else:
                receiver.receive(message)

        self._arrive(receiver, take, again, type(message).__name__)

    def _arrive(self, party: Party, take: Callable[[], None], again: Callable[[int], None], name: str) -> None:
        if not party.is_up:
            return
        fault = self.fault(DELIVERY, party, name)
        if fault == "lost":
            return
        if fault in ("overtaken", "late"):
            again(OVERTAKEN_US if fault == "overtaken" else LATE_US)
            return
        if fault in ("twice", "echo"):
            again(0 if fault == "twice" else LATE_US)
        if fault.startswith("crash before"):
            self.crash(party, DOWN_US[fault[13:]])
            return
        take()
        if fault.startswith("crash after"):
            self.crash(party, DOWN_US[fault[12:]])
        else:
            party.arm()

    # --- Customers ---------------------------------------------------------------------------------------------------
    def _ask(self, customer: Customer, pause_us: int) -> None:
        """Ask once, and once more later if no answer comes."""
        customer.asks += 1
        ask = customer.asks
        if ask > ASKS_MAX:
            raise Violation("the customer never gets a definite answer")
        bank = self.banks[customer.bank]

        def arrive() -> None:
            self._arrive(bank, lambda: bank.pay(customer, ask), again, "pay")

        def again(pause_us: int) -> None:
            self._push(self.now_us + pause_us, None, arrive)

        def lose_patience() -> None:
            if ask not in customer.answered_asks:
                customer.answered_asks.add(ask)
                self._ask(customer, 0)

        self._push(self.now_us + pause_us + LATENCY_US, None, arrive)
        self._push(self.now_us + pause_us + PATIENCE_US, None, lose_patience)

    def answer(self, bank: Bank, customer: Customer, ask: int, answer: str) -> None:
        """Put an answer on its way to the customer."""

        def arrive() -> None:
            fault = self.fault(ANSWERING, None, answer)
            if fault == "late":
                self._push(self.now_us + LATE_US, None, arrive)
            elif not fault:
                self._answered(customer, ask, answer)

        self._push(self.now_us + LATENCY_US, None, arrive)

    def _answered(self, customer: Customer, ask: int, answer: str) -> None:
        if answer.startswith("error"):
            if ask not in customer.answered_asks:
                customer.answered_asks.add(ask)
                self._ask(customer, REPEAT_US)
            return
        customer.answered_asks.update(range(1, customer.asks + 1))
        if customer.answer not in ("", answer):
            raise Violation(f"told {customer.answer}, then {answer}")
        customer.answer = answer

    # --- What must always be -----------------------------------------------------------------------------------------
    def written(self, party: Party, entry: Any) -> None:
        """Hold an entry that is durable now against the other ledgers.

        Raises:
            Violation: one side did what another contradicts.
        """
        facts, decided = party.facts, self.gateway.facts
        kind, id = type(entry), entry.id
        if kind is HoldPlaced:
            facts.placed.add(id)
            if party is not self.gateway and entry.debit != SETTLEMENT:
                self._check_attempts(party, id)
        elif kind is Posted:
            facts.posted[id] = entry
            if party is self.gateway:
                self._check_decision(id, entry)
            elif id not in decided.posted:
                raise Violation(f"{party.name} posted what the gateway has not decided")
        elif kind is HoldReleased:
            facts.closed[id] = entry.reason
            if id in decided.posted:
                raise Violation(f"{party.name} freed what the gateway has decided to pay")
            is_own = entry.reason != Status.id_reused  # the gateway has another bank's payment under this id
            if party is not self.gateway and is_own and id not in decided.closed:
                raise Violation(f"{party.name} freed what the gateway has not given up")
        elif kind is Refused:
            given_up = entry.status == Status.payment_given_up
            facts.closed[id] = int(dict(entry.facts)["reason"]) if given_up else entry.status

    def _check_decision(self, id: bytes, entry: Posted) -> None:
        payer, payee = (side.partition("/")[0] for side in entry.counterparty.split(">"))
        for bank in (self.banks[payer].facts, self.banks[payee].facts):
            if id not in bank.placed or id in bank.closed:
                raise Violation("the gateway decided to pay what a bank does not hold")

    def _check_attempts(self, bank: Party, id: bytes) -> None:
        for customer in self.customers:
            ids = attempts_of(customer.payment)
            if customer.bank == bank.name and id in ids:
                before = ids[: ids.index(id)]
                if any(earlier not in bank.facts.closed for earlier in before):
                    raise Violation("an attempt was begun before the one before was over")

    def told(self, bank: Bank, customer: Customer, order: Order, answer: str) -> None:
        """Hold what a customer is told against the ledgers at this moment, and keep it for the end.

        Raises:
            Violation: it is not true.
        """
        customer.told.append((answer, order.id, order.attempt))
        posted, decided = bank.facts.posted, self.gateway.facts.posted
        if answer == "paid":
            if order.id not in posted or order.id not in decided:
                raise Violation("told paid, and it is not")
            return
        if answer == "error 3007":
            return
        leg = bank.legs.get(order.id)
        if isinstance(leg, Outgoing) and order in leg.orders:
            raise Violation(f"told {answer} about what is still open")
        tried = attempts_of(customer.payment)[: order.attempt]
        if answer.startswith("refused id_reused"):
            return
        if answer.startswith("refused"):
            tried.append(order.id)
        if any(id in posted or id in decided for id in tried):
            raise Violation(f"told {answer}, and it was paid")
        if any(id not in bank.facts.closed for id in tried):
            raise Violation(f"told {answer} about what is still open")

    # --- The end -----------------------------------------------------------------------------------------------------
    def _check_the_end(self) -> None:
        for party in self.parties:
            self._check_books(party)
            if party.disputes and not self.scenario.has_disputes:
                raise Violation(f"{party.name} was told what its books contradict")
            left = [
                machine for machine in party.machines() if getattr(machine, "phase", None) is not OrderPhase.answered
            ]
            if left:
                raise Violation(f"{party.name} still waits for something")
        self._check_payments()
        for customer, expected in zip(self.customers, self.scenario.expected, strict=True):
            if customer.answer not in expected:
                raise Violation(f"the customer was told {customer.answer or 'nothing'}, not {sorted(expected)}")
            self._check_customer(customer)

    def _check_books(self, party: Party) -> None:
        """Nothing held, nothing appeared, nothing vanished; and the durable entries alone say the same."""
        state = party.ledger.state
        accounts = [state.account(account.number) for account in party.ledger.accounts]
        balances = [account.balance for account in accounts if account is not None]
        if any(account.debits_pending or account.credits_pending for account in accounts if account is not None):
            raise Violation(f"{party.name} holds money at the end")
        if sum(balances) != 0:
            raise Violation(f"the books of {party.name} do not add up")
        if not self.is_thorough:
            return
        party.ledger.load()
        if balances != [party.ledger.balance(account.number) for account in party.ledger.accounts]:
            raise Violation(f"the journal of {party.name} says something else than its books")

    def _check_payments(self) -> None:
        """Both legs or none, and the positions say what the banks say."""
        decided = self.gateway.facts.posted
        for name, bank in self.banks.items():
            legs = {id: entry for id, entry in decided.items() if _side(entry, name)}
            if bank.facts.posted.keys() != legs.keys():
                raise Violation(f"{name} and the gateway do not have the same payments")
            for position, entry in enumerate(self.gateway.ledger.durable, 1):
                if type(entry) is Posted and entry.id in legs:
                    mine = bank.facts.posted[entry.id]
                    if (mine.amount, mine.gateway_sequence) != (entry.amount, position):
                        raise Violation(f"{name} has another amount or sequence than the gateway")
            if bank.ledger.balance(SETTLEMENT) != -self.gateway.ledger.balance(POSITIONS[name]):
                raise Violation(f"the settlement account of {name} is not what its position says")

    def _check_customer(self, customer: Customer) -> None:
        ids = attempts_of(customer.payment)
        posted = self.banks[customer.bank].facts.posted
        paid = [id for id, entry in posted.items() if self._is_mine(customer, entry) and id in ids]
        if len(paid) > 1:
            raise Violation("paid more than once")
        if (customer.answer == "paid") != bool(paid):
            raise Violation(f"told {customer.answer}, paid {len(paid)} times")
        for answer, id, attempt in customer.told:
            tried = set(ids[:attempt]) | ({id} if answer.startswith("refused") else set())
            if not answer.startswith(("paid", "error 3007")) and tried & set(paid):
                raise Violation(f"told {answer} about what was paid later")

    def _is_mine(self, customer: Customer, entry: Posted) -> bool:
        return (entry.debit, entry.amount, entry.counterparty) == (customer.debit, customer.amount, customer.payee)

    def _check_repeat(self, customer: Customer) -> None:
        """Once all is quiet the same id gets the same answer, and nothing moves."""
        before, sizes = customer.answer, [len(party.ledger.durable) for party in self.parties]
        customer.answer = ""
        self._ask(customer, 0)
        self._go()
        if customer.answer != before:
            raise Violation(f"told {before}, and on asking again {customer.answer or 'nothing'}")
        if [len(party.ledger.durable) for party in self.parties] != sizes:
            raise Violation("asking again changed something")


def _side(entry: Posted, bank: str) -> bool:
    return any(side.partition("/")[0] == bank for side in entry.counterparty.split(">"))
