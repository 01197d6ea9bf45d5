"""A gateway as its banks and operators meet it: who may come in, a payment from end to end, and what goes wrong."""

from __future__ import annotations

from pathlib import Path

from tests.gateway.switches import paid, switching
from tests.server.banks import until


async def test_a_payment_from_bank_to_bank(tmp_path: Path) -> None:
    """Submitted, prepared, voted for, decided and told to both; the positions say who owes."""
    async with switching(tmp_path) as hub:
        a, b = await hub.enter_both()
        outcome = await paid(a, b)
        assert outcome.sequence > 0 and outcome.reason == 0
        assert (hub.position_of("bank-a"), hub.position_of("bank-b")) == ((-500, 0), (500, 0))
        await until(lambda: not hub.switch.coordinator.machines)
