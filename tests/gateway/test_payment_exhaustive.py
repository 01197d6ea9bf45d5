"""A payment between banks comes out right whatever is lost, doubled, late or crashes, alone, in pairs and in threes.

The real machines and the real rules of the ledger in a simulated world (`tests.gateway.world`). ``make explore`` runs
all that there is; here are all single faults of all scenarios, all pairs of the first one, and a sample of the rest.
"""

from __future__ import annotations

import pytest

from fortress.errors import Status
from fortress.ledger.model import HoldState
from tests.gateway.exploration import RATES, SCENARIOS, Exploration, Result, Storm, outcome_of_run, traced
from tests.gateway.mistakes import MISTAKES
from tests.gateway.world import (
    AMOUNT,
    BOB,
    CRASHES,
    DELIVERY,
    MONEY,
    PAYMENT,
    SECOND,
    SETTLEMENT,
    WRITING,
    Customer,
    Ledger,
    Scenario,
    World,
)

pytestmark = pytest.mark.timeout(600)

PAID = SCENARIOS["a payment"]
SHARE_OF_THREES = 1 / 200
SHARE_OF_PAIRS = 1 / 100
STORMS = 60
HOUR_US = 3600 * SECOND


def show(scenario: Scenario, result: Result) -> str:
    """What to look at when something is wrong: the schedule, and the run step by step."""
    return "\n".join(f"{violation}: {faults}\n{traced(scenario, faults)}" for faults, violation in result.found)


def test_the_road_of_a_payment() -> None:
    """Without a fault: an order, seven messages between three parties, six writes, one answer."""
    world = World(PAID, {}, is_traced=True)
    world.run()
    assert world.trace is not None
    steps = [" ".join(line.split()[3:]) for line in world.trace]
    assert steps == (
        "a pay|a judge|a write|a answer|g Submit|g judge|g write|g answer|b Prepare|b judge|b write|b answer|"
        "g Vote|g judge|g write|g answer|a Outcome|a judge|b Outcome|b judge|a write|b write|a answer|b answer|"
        "g Acknowledge|customer paid|g Acknowledge"
    ).split("|")


def test_each_single_fault_each_pair_and_a_sample_of_threes() -> None:
    """Nothing that must never be is, in any of them; `make explore` runs the threes that are left out here."""
    result = Exploration(PAID, 3, share=SHARE_OF_THREES, seed=4).run()
    print(f"alone {result.runs[1]}, pairs {result.runs[2]}, threes {result.runs[3]} of {result.possible[3]}")
    assert not result.found, show(PAID, result)
    assert result.runs[:3] == result.possible[:3]
    assert result.runs[1] >= 130
    assert result.runs[2] >= 15_000
    assert result.possible[3] >= 1_500_000
    assert result.runs[3] >= 8_000


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_single_fault_of_every_scenario(name: str) -> None:
    """Refusals, caps, suspended banks, the same id twice, false messages: each with every fault, and some pairs."""
    result = Exploration(SCENARIOS[name], 2, share=SHARE_OF_PAIRS, seed=4).run()
    print(f"{name}: alone {result.runs[1]}, pairs {result.runs[2]} of {result.possible[2]}")
    assert not result.found, show(SCENARIOS[name], result)
    assert result.runs[1] == result.possible[1] >= 19
    assert result.runs[2] >= 1


@pytest.mark.parametrize("name", SCENARIOS)
def test_many_faults_in_one_run(name: str) -> None:
    """Storms in which every twentieth, tenth or third step goes wrong for a while: it comes out right as well."""
    sizes = []
    for seed in range(STORMS):
        storm = Storm(seed, rate=RATES[seed % len(RATES)])
        _, violation = outcome_of_run(SCENARIOS[name], storm)
        assert not violation, f"{violation}: {dict(storm)}\n{traced(SCENARIOS[name], dict(storm))}"
        sizes.append(len(storm))
    assert max(sizes) > 3  # more than every schedule has


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: each mistake breaks something within its number of faults."""
    mistake = MISTAKES[name]
    mistake.make(monkeypatch)
    assert Exploration(SCENARIOS[mistake.scenario], mistake.depth, found_max=1).run().found


def test_faults_do_something() -> None:
    """Each kind of fault changes what happens after it."""
    world = World(PAID, {}, is_traced=True)
    world.run()
    submit = next(step for step, options in enumerate(world.options) if options == DELIVERY and step)
    seen = {fault: traced(PAID, {submit: fault}) for fault in DELIVERY}
    assert len(set(seen.values())) == len(DELIVERY)
    assert CRASHES == DELIVERY[-4:]


# --- Scenarios by name -----------------------------------------------------------------------------------------------
def hold_state(ledger: Ledger) -> HoldState:
    hold = ledger.state.hold(PAYMENT)
    assert hold is not None
    return HoldState(hold.state)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("the payee's account is closed", "refused credit_account_closed"),
        ("the payee's account is frozen", "refused credit_account_frozen"),
        ("the payee's account is unknown", "refused credit_account_unknown"),
        ("the payee's account is in another currency", "refused currency_mismatch"),
        ("the payee's bank is unknown", "refused payee_bank_unknown"),
        ("the cap is passed", "refused exceeds_debit_cap"),
        ("the payer has not enough", "refused exceeds_available"),
        ("a bank is suspended", "refused bank_suspended"),
    ],
)
def test_a_refusal_costs_nothing_and_repeats(name: str, answer: str) -> None:
    """One answer, the money free again everywhere, and the same answer for the same id."""
    world = World(SCENARIOS[name], {}).run()
    assert world.customers[0].told == [(answer, PAYMENT, 0)] * 2
    assert [bank.ledger.balance(SETTLEMENT) for bank in world.banks.values()] == [0, 0]


@pytest.mark.parametrize(
    ("name", "state"),
    [("the payee's account is frozen on the way", 3), ("the payee's account is to be closed on the way", 1)],
)
def test_what_was_prepared_is_paid_whatever_becomes_of_the_account(name: str, state: int) -> None:
    """Freezing after the vote does not stop the commit; closing an account that is promised money is refused."""
    world = World(SCENARIOS[name], {}).run()
    account = world.banks["b"].ledger.state.account(BOB)
    assert account is not None
    assert (world.customers[0].answer, account.state) == ("paid", state)
    assert hold_state(world.banks["b"].ledger) is HoldState.posted


def test_an_infrastructure_error_is_tried_again_under_another_id() -> None:
    """The payee's bank is away: attempts are given up one after the other, and one goes through once it is back."""
    world = World(Scenario(events=((0, lambda world: world.crash(world.banks["b"], 12 * SECOND)),)), {}).run()
    customer = world.customers[0]
    assert customer.answer == "paid"
    assert [answer for answer, _, _ in customer.told[:2]] == ["error 3011"] * 2
    assert customer.told[-1][2] > 3
    assert len(world.banks["a"].facts.posted) == 1


def test_a_bank_that_votes_and_vanishes_for_an_hour_is_listed_and_done_when_it_is_back() -> None:
    """The payer's side is through at once; the gateway tells who is missing; the payee has it an hour later."""
    seen: list[tuple[str, ...]] = []
    scenario = Scenario(
        events=(
            (6_500, lambda world: world.crash(world.banks["b"], HOUR_US)),
            *(
                (minute * 60 * SECOND, lambda world: seen.append(world.gateway.payments[PAYMENT].missing))
                for minute in (1, 59)
            ),
        )
    )
    world = World(scenario, {})
    world.run()
    assert seen == [("b",), ("b",)]
    assert world.customers[0].told[0] == ("paid", PAYMENT, 0)
    assert world.banks["b"].ledger.balance(BOB) == MONEY + AMOUNT
    posted = world.banks["b"].facts.posted[PAYMENT]
    assert posted.time_us - world.banks["a"].facts.posted[PAYMENT].time_us >= HOUR_US - SECOND


def test_an_outcome_that_nobody_asked_for_moves_nothing() -> None:
    """A commit of an unknown payment is reported by the banks and not acknowledged; votes of others do not count."""
    for name in ("lies before it", "lies in the middle of it"):
        world = World(SCENARIOS[name], {}).run()
        assert [bank.disputes for bank in world.banks.values()] == [[Status.payment_unknown]] * 2
        assert world.customers[0].told[0] == ("paid", PAYMENT, 0)


def test_a_hundred_requests_at_once_are_one_payment() -> None:
    """The same id and content, all answered, one posting; another amount under the id is refused."""
    other = Customer(amount=AMOUNT + 1, at_us=5_000)
    scenario = Scenario(
        (*[Customer] * 100, lambda: other), (frozenset({"paid"}),) * 100 + (frozenset({"refused id_reused"}),)
    )
    world = World(scenario, {}).run()
    assert [len(party.facts.posted) for party in world.parties] == [1, 1, 1]
    assert world.banks["b"].ledger.balance(BOB) == MONEY + AMOUNT


def test_a_schedule_runs_the_same_each_time() -> None:
    """A run is told by its faults alone."""
    options = outcome_of_run(PAID, {})[0]
    prepare = [step for step, each in enumerate(options) if each == DELIVERY][2]
    write = next(step for step, each in enumerate(options) if each == WRITING and step > prepare)
    faults = {prepare: "late", write: "crash after long"}
    assert traced(PAID, faults) == traced(PAID, faults)
    assert outcome_of_run(PAID, faults)[1] == ""
