"""``bench``: quantiles, thresholds and the loops, against sessions in memory."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from fortress.cli.bench import Bench, Lane, Tally, missed_thresholds, parse_thresholds, pick_lane, quantile
from fortress.cli.command import Call
from fortress.cli.contexts import Context
from fortress.client.me import Me
from fortress.client.money import Money
from fortress.errors import Busy, UsageError
from tests.cli.conftest import NUMBER, OTHER, account_view

CONTEXT = Context(name="x", address="h:1", bank="a", username="alice", ca="x", ca_sha256="")


class Till:
    """A session with two accounts, which moves money at once."""

    def __init__(self) -> None:
        self.minor = {NUMBER: 100, OTHER: 100}
        self.views = [account_view(), account_view(OTHER)]
        self.fails_every = 0
        self.loses_minor = 0
        self.asked = 0

    async def accounts(self) -> list[Any]:
        return [
            account_view(view.number, currency=view.currency, balance_minor=self.minor.get(view.number, 0))
            for view in self.views
        ]

    async def transfer(self, debit: int, credit: int, money: Money) -> None:
        self.asked += 1
        number = self.asked
        self.minor[debit] -= self.loses_minor
        await asyncio.sleep(0)
        if self.fails_every and number % self.fails_every == 0:
            raise Busy
        self.minor[debit] -= money.minor
        self.minor[credit] += money.minor


def measure(till: Till, work: str = "transfer", payee: int | None = None, **more: Any) -> tuple[Tally, bool]:
    shape: dict[str, Any] = {"clients": 2, "outstanding": 2, "rate": None, "seconds": 0.05, **more}
    bench = Bench(Call(quiet=True), CONTEXT, **shape)

    async def connect(stack: object) -> Me:
        return cast(Me, till)

    setattr(bench, "_connect", connect)  # noqa: B010
    return asyncio.run(bench.run(work, payee))


def test_a_closed_loop_asks_again_when_it_is_answered() -> None:
    """To and fro, so that nobody runs out of money."""
    till = Till()
    tally, is_whole = measure(till)
    assert is_whole and len(tally.latencies_s) == till.asked > 4
    assert abs(till.minor[NUMBER] - 100) <= 4
    assert tally.elapsed_s >= 0.05 and tally.rate > 0


def test_an_open_loop_asks_when_it_is_due() -> None:
    """As many as the rate says."""
    tally, _ = measure(Till(), rate=400.0, seconds=0.1)
    assert len(tally.latencies_s) == 40
    assert tally.elapsed_s >= 39 / 400


def test_errors_are_counted_by_code() -> None:
    """They end nothing and count as no latency."""
    till = Till()
    till.fails_every = 5
    tally, _ = measure(till)
    assert tally.errors["FT-3002"] == till.asked // 5
    assert len(tally.latencies_s) + tally.errors.total() == till.asked


def test_lost_money_is_noticed() -> None:
    """Between one's own accounts the sum stays."""
    till = Till()
    till.loses_minor = 1
    assert not measure(till)[1]


def test_a_payee_gets_all() -> None:
    """What is on their account cannot be seen, so nothing is compared."""
    till = Till()
    _, is_whole = measure(till, payee=OTHER)
    assert is_whole and till.minor[OTHER] == 100 + till.asked


def test_reading_needs_no_second_account() -> None:
    """Only balances are asked for."""
    till = Till()
    asked = []

    async def balance() -> None:
        await asyncio.sleep(0)
        asked.append(1)

    setattr(till, "balance", balance)  # noqa: B010
    tally, _ = measure(till, work="balance")
    assert len(tally.latencies_s) == len(asked) > 0


def test_two_accounts_of_one_currency_are_found() -> None:
    """Or it is told what to do."""
    till = Till()
    till.views = [account_view(1, currency="USD"), account_view(NUMBER), account_view(OTHER)]
    assert asyncio.run(pick_lane(cast(Me, till), None)) == Lane(NUMBER, OTHER, "EUR", True)
    till.views = till.views[:2]
    with pytest.raises(UsageError, match="two open accounts"):
        asyncio.run(pick_lane(cast(Me, till), None))


def test_quantiles_are_values_that_were_measured() -> None:
    """The least one that is not exceeded by more than the rest."""
    times = [float(number) for number in range(1, 101)]
    assert [quantile(times, share) for share in (0.5, 0.99, 0.999, 1.0)] == [50.0, 99.0, 100.0, 100.0]
    assert quantile([], 0.5) == 0


def test_thresholds_are_read_and_compared() -> None:
    """A rate is at least, all else at most."""
    bounds = parse_thresholds(("p99=10", "rate=1000", "p99.9=20", "errors=0"))
    figures = {"p99": 11.0, "rate": 999.0, "p99.9": 20.0, "errors": 0.0}
    missed = missed_thresholds(figures, bounds)
    assert missed == ["p99 is 11.00, not at most 10", "rate is 999.00, not at least 1000"]
    for wrong in ("p98=1", "p99", "p99=fast"):
        with pytest.raises(UsageError):
            parse_thresholds((wrong,))
