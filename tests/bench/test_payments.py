"""Payments between banks are measured on a whole system: two banks and a gateway, each a pair, and books that agree."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import pytest

from bench import payments
from bench.bank import numbers_of
from bench.crossing import payments as workload
from bench.crossing import side
from fortress.protocol.payments import Pay


@pytest.mark.timeout(120)
def test_two_clients_pay_each_way(tmp_path: Path) -> None:
    """The result has rate, latencies, the ratio to lone transfers and what a payment costs; nothing is left behind."""
    options = payments.options_parser().parse_args(
        ["--accounts", "64", "--clients", "2", "--seconds", "0.5", "--warm-up", "0"]
    )
    options.folder = tmp_path
    result = payments.measure(options)
    assert {"payments_per_s", "p99_ms", "ratio_to_lone", "cpu_us", "clients"} <= result.keys()
    assert all(float(str(result[name])) > 0 for name in ("payments_per_s", "ratio_to_lone", "gateway_primary_cpu_us"))
    assert not any(tmp_path.iterdir())


def test_every_payment_crosses_banks() -> None:
    """From an account of the one to an account of the other, an id for each."""
    numbers = numbers_of(8)
    made: list[Any] = [workload("b", numbers, random.Random(1)).make() for _ in range(50)]
    assert {operation for operation, _ in made} == {"pay"}
    for _, request in made:
        assert isinstance(request, Pay) and request.debit in numbers
        assert request.payee.startswith("b/") and int(request.payee[2:]) in numbers
    assert len({request.id for _, request in made}) == 50


def test_a_side_is_read(tmp_path: Path) -> None:
    """Its file may have a colon in its name; what is none is wrong usage."""
    found = side("a:7611:/x/c:a.crt")
    assert (found.bank, found.port, found.ca) == ("a", 7611, Path("/x/c:a.crt"))
    with pytest.raises(ValueError):
        side("a:7611")


def test_banks_that_disagree_with_the_gateway_fail_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it is waited."""

    async def problems(system: object) -> list[str]:
        return ["a has 5, and the gateway -4"]

    monkeypatch.setattr(payments, "_problems", problems)
    monkeypatch.setattr(payments, "CAUGHT_UP_S_MAX", 0)
    with pytest.raises(RuntimeError, match="a has 5"):
        payments.check_system(cast(payments.System, None))
