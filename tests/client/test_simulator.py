"""Tests of the simulator: what it counts, shows and checks, with good banks and bad ones."""

from __future__ import annotations

import asyncio

import pytest

from fortress.client.scenario import DEFAULT, Customer, Step, Visitor
from fortress.client.simulator import SIGN_IN, Progress, SimulationResult, Simulator, quantile
from fortress.errors import UsageError
from tests.client.conftest import ALICE_SEED, BOB_SEED
from tests.client.fake_bank import Books, Credentials, FakeNode

ALICE, BOB = Customer("alice", seed=ALICE_SEED), Customer("bob", seed=BOB_SEED)


@pytest.fixture
def rich(books: Books) -> Books:
    """Bob has money as well."""
    books.balances[101] = 100_000
    return books


def counts(result: SimulationResult) -> dict[str, tuple[int, int, int]]:
    return {row.step: (row.ok, row.refused, row.errors) for row in result.steps}


async def test_many_customers_do_what_customers_do(node: FakeNode, rich: Books) -> None:
    """Six clients of two customers, three rounds: every step counted, every check passed, no money lost."""
    shown: list[Progress] = []
    simulator = Simulator(node.address, node.credentials.ca, [ALICE, BOB], clients=6, rounds=3)
    result = await simulator.run(shown.append)
    assert result.passed
    assert counts(result) == {
        SIGN_IN: (6, 0, 0),
        "check balance": (18, 0, 0),
        "transfer": (18, 0, 0),
        "update contact information": (18, 0, 0),
        "invalid request": (0, 18, 0),
    }
    assert sum(rich.balances.values()) == 200_000
    assert [event.done for event in shown] == list(range(1, simulator.total + 1))
    assert {event.outcome for event in shown} == {"ok", "refused"}
    assert all(row.p50_ms <= row.p99_ms <= row.max_ms for row in result.steps)
    assert result.tasks_per_s > 0
    assert result.errors == {}


async def test_a_single_client_makes_three_tasks(node: FakeNode, rich: Books) -> None:
    """Besides the session's own requests there are the four steps and nothing else."""
    result = await Simulator(node.address, node.credentials.ca, [ALICE], payee=101).run()
    assert result.passed
    asked = ["hello", "login_begin", "login_finish", "get_account", "transfer", "set_profile", "make_me_rich"]
    assert node.asked == asked


async def test_someone_who_cannot_sign_in_stops_nobody(node: FakeNode, rich: Books) -> None:
    """The others go on, and the result says what was missing."""
    stranger = Customer("mallory", seed=b"m" * 32)
    result = await Simulator(node.address, node.credentials.ca, [ALICE, stranger, BOB]).run()
    assert not result.passed
    assert counts(result)[SIGN_IN] == (2, 0, 1)
    assert counts(result)["transfer"] == (2, 0, 0)
    assert {check.name for check in result.checks if not check.passed} >= {"everybody signed in"}
    assert list(result.errors.values()) == [1]


async def test_a_failing_step_is_an_error_and_the_rest_goes_on(node: FakeNode, books: Books) -> None:
    """Bob has nothing to send: a refusal that nobody wanted is an error, and says so."""
    books.balances[101] = -1
    result = await Simulator(node.address, node.credentials.ca, [ALICE, BOB]).run()
    assert counts(result)["transfer"][2] == 1
    assert counts(result)["invalid request"] == (0, 2, 0)
    assert "available" in next(iter(result.errors))


async def test_whoever_waits_for_a_payee_does_not_wait_for_ever(node: FakeNode, rich: Books) -> None:
    """Bob's account number never comes, since his balance cannot be read."""
    node.faults["get_account"] = ["cut_before"] * 1000
    simulator = Simulator(node.address, node.credentials.ca, [ALICE, BOB], deadline_s=1.0)
    result = await asyncio.wait_for(simulator.run(), 60)
    assert counts(result)["check balance"] == (0, 0, 2)
    assert not result.passed


async def test_a_simulation_goes_on_over_a_failover(node: FakeNode, credentials: Credentials, rich: Books) -> None:
    """The node dies in the middle: nobody notices but by the time, and nothing is done twice."""
    other = await FakeNode(credentials, rich).start()
    other.follow(node)
    taken_over = []

    async def take_over() -> None:
        await node.stop()
        other.lead()

    def on_progress(event: Progress) -> None:
        if event.step == "transfer" and not taken_over:
            taken_over.append(asyncio.create_task(take_over()))

    address = f"fortress://{node.endpoint},{other.endpoint}/a"
    result = await Simulator(address, credentials.ca, [ALICE, BOB], clients=4, rounds=5).run(on_progress)
    await asyncio.gather(*taken_over)
    assert result.passed, result.errors
    assert (result.acknowledged, result.refused, result.unknown) == (4 * 5 * 3, 4 * 5, 0)
    assert 0 < result.outage_s <= result.elapsed_s
    assert rich.tree.size == 1 + 4 * 5
    assert other.asked.count("login_begin") == 0
    await other.stop()


async def test_an_unknown_outcome_is_settled_by_asking_again(node: FakeNode, rich: Books) -> None:
    """The payment of which nobody knew is the same one afterwards; what is never settled is counted as that."""
    node.faults["transfer"] = ["cut_after"]
    node.faults["resume"] = ["distrusted"]  # says nothing about the transfer, and ends the tries of the client
    result = await Simulator(node.address, node.credentials.ca, [ALICE], payee=101).run()
    assert result.passed, result.errors
    assert (result.settled, result.unknown) == (1, 0)
    assert rich.balances == {100: 99_999, 101: 100_001}
    node.faults["transfer"] = ["cut_before"] * 1000
    result = await Simulator(node.address, node.credentials.ca, [ALICE], payee=101, deadline_s=0.5).run()
    assert (result.settled, result.unknown) == (0, 1)


async def test_what_should_have_been_refused_is_an_error(node: FakeNode) -> None:
    """A bank that does what it should refuse fails the simulation; so does a step without end."""

    async def nothing(visitor: Visitor) -> None:
        """Do nothing, which nobody refuses."""

    async def forever(visitor: Visitor) -> None:
        await asyncio.get_running_loop().create_future()

    scenario = [Step("nothing", nothing, DEFAULT[3].refusal), Step("forever", forever)]
    simulator = Simulator(node.address, node.credentials.ca, [ALICE], scenario=scenario, payee=101, deadline_s=0.05)
    result = await simulator.run()
    assert counts(result) == {SIGN_IN: (1, 0, 0), "nothing": (0, 0, 1), "forever": (0, 0, 1)}
    assert set(result.errors) == {"nothing: was done and should have been refused", "forever: no end in time"}


@pytest.mark.asyncio(loop_factories=["uvloop"])  # deriving keys is slow and the same on both loops
async def test_a_password_signs_in_too(node: FakeNode, books: Books) -> None:
    """As people do."""
    result = await Simulator(node.address, node.credentials.ca, [Customer("alice", "wrong phrase")], payee=101).run()
    assert counts(result)[SIGN_IN] == (0, 0, 1)


@pytest.mark.parametrize(("customers", "rounds"), [([], 1), ([ALICE], 1), ([ALICE, BOB], 0)])
def test_what_cannot_be_simulated_is_told(customers: list[Customer], rounds: int) -> None:
    """Nobody, nobody to pay, no round."""
    with pytest.raises(UsageError):
        Simulator("fortress://x/a", b"", customers, rounds=rounds)


@pytest.mark.parametrize(("q", "value"), [(0.5, 5), (0.99, 10), (1.0, 10), (0.1, 1), (0.0, 1)])
def test_quantiles_are_values_that_occurred(q: float, value: int) -> None:
    """The smallest value that at least the share does not exceed."""
    assert quantile(list(range(1, 11)), q) == value
    assert quantile([], q) == 0.0
