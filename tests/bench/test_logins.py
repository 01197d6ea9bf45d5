"""Benches that need many people have them."""

from __future__ import annotations

from bench import logins
from bench.bank import Plan
from bench.memory import touched


def test_everybody_has_a_login_of_their_own() -> None:
    """The defaults sign in thousands of different people, so that no throttle and no cache decides the number."""
    options = logins.options_parser().parse_args([])
    assert options.people >= 1_000 and Plan().people == 0


def test_accounts_touched_are_those_that_draws_find() -> None:
    """As many draws as accounts find about 63 % of them, and very many find all."""
    assert touched(1_000, 1_000) == 632
    assert touched(1_000, 100_000) == 1_000
