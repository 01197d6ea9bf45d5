"""The outbox on the command line: written down without a bank, sent with one, its end told by the exit code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fortress.cli import outbox as outboxes
from fortress.cli.contexts import Contexts
from fortress.client import outbox as client_outbox
from fortress.client.credentials import LoginKey
from fortress.client.ids import format_id, new_id
from fortress.client.order_file import OrderFile, OrderState
from fortress.client.receipts import decode_receipt
from fortress.errors import FortressError, GatewayUnreachable, OutcomeUnknown, Refused, Status, Unreachable
from fortress.protocol.orders import PaymentOrder, verify_order
from tests.cli.conftest import NUMBER, OTHER, RECEIPT, FakeBank

Tell = Callable[..., Any]
HERE = ("outbox", "add", f"b/{OTHER}", "12.50", "EUR", "--from", str(NUMBER))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are short here."""
    monkeypatch.setattr(client_outbox, "WAIT_S_MIN", 0.001)


@pytest.fixture
def reached(bank: FakeBank, monkeypatch: pytest.MonkeyPatch) -> list[FortressError]:
    """Sessions lead to the bank in memory, unless a test puts an error there."""
    errors: list[FortressError] = []

    def sessions(*_: object) -> Any:
        @asynccontextmanager
        async def session() -> AsyncIterator[FakeBank]:
            if errors:
                raise errors[0]
            yield bank

        return session

    monkeypatch.setattr(outboxes, "sessions", sessions)
    return errors


def add(tell: Tell, *options: str) -> str:
    """Write one down; gives its id."""
    code, out, err = tell(*HERE, *options, "--json")
    assert code == 0, err
    found: str = out["id"]
    return found


def test_a_payment_is_written_down_without_asking_anybody(bank: FakeBank, tell: Tell, contexts: Contexts) -> None:
    """It is on the disk, and nothing was sent."""
    code, out, err = tell(*HERE, "--reference", "Rent", "--not-after", "2031-01-01T00:00:00Z")
    assert code == 0 and "nothing was sent yet" in err
    assert "waits" in out and "12.50 EUR" in out and f"b/{OTHER}" in out and "Rent" in out and "2031-01-01" in out
    assert bank.calls == []
    assert contexts.outbox_file(contexts.get()).is_file()
    code, out, _ = tell("outbox", "list", "--json")
    assert code == 0 and len(out) == 1
    assert (out[0]["state"], out[0]["signed"], out[0]["tries"]) == ("queued", False, 0)
    assert out[0]["not_after"] == "2031-01-01T00:00:00.000000Z"
    assert "12.50 EUR" in tell("outbox", "list")[1]


def test_an_account_of_the_own_bank_is_named_with_its_bank(bank: FakeBank, tell: Tell) -> None:
    """As it is sent."""
    out = tell("outbox", "add", str(OTHER), "1 EUR", "--from", str(NUMBER), "--json")[1]
    assert out["to"] == f"a/{OTHER}" and bank.calls == []


def test_adding_again_under_the_same_id_changes_nothing(bank: FakeBank, tell: Tell) -> None:
    """Another payment under that id is refused."""
    id = format_id(new_id())
    assert add(tell, "--id", id) == add(tell, "--id", id) == id
    assert len(tell("outbox", "list", "--json")[1]) == 1
    code, _, err = tell(*HERE, "--reference", "other", "--id", id)
    assert code == 2 and "another order" in err


def test_a_key_file_signs_here(bank: FakeBank, tell: Tell, contexts: Contexts, tmp_path: Path) -> None:
    """Without a connection; the signature is over the order that is stored."""
    key_file = tmp_path / "alice.key"
    key_file.write_text("ab" * 32)
    key_file.chmod(0o600)
    assert tell(*HERE, "--key-file", str(key_file), "--json")[1]["signed"] is True
    assert bank.calls == []
    file = OrderFile.open(contexts.outbox_file(contexts.get()))
    (item,) = file.items()
    file.close()
    signing_key = LoginKey(bytes.fromhex("ab" * 32)).signing_public()
    assert verify_order(item.order, signature=item.signature, signing_key=signing_key)


def test_what_is_not_known_here_the_bank_is_asked_for(bank: FakeBank, tell: Tell, secret_file: Path) -> None:
    """Names, the default account, the currency; and with a password the session signs."""
    bank.signature = b"s" * 64
    code, out, err = tell(
        *("outbox", "add", "b/ines", "3", "--password-file", str(secret_file), "--sign", "--yes", "--json")
    )
    assert code == 0 and f"account b/{OTHER}" in err
    assert (out["from"], out["to"], out["amount"]["minor"]) == (str(NUMBER), f"b/{OTHER}", "300")
    assert out["signed"] is True
    assert bank.calls[:2] == [("login", "alice", "seven quiet rivers", ""), ("resolve", "b/ines", "EUR")]
    assert tell("outbox", "add", "bob", "3 EUR", "--json")[1]["to"] == f"a/{OTHER}"


def test_a_bank_that_is_needed_and_not_there_is_told(bank: FakeBank, tell: Tell) -> None:
    """With what would have to be named."""
    bank.refuse("resume", Unreachable("no address answers"))
    code, _, err = tell("outbox", "add", "b/ines", "3 EUR")
    assert code == 2 and "by number" in err and "no address answers" in err
    assert tell("outbox", "list", "--json")[1] == []


def test_everything_is_sent_and_told(bank: FakeBank, tell: Tell, reached: list[FortressError], tmp_path: Path) -> None:
    """Exit code 0 when all was done; the receipt can be written out."""
    ids = [add(tell) for _ in range(3)]
    code, out, err = tell("outbox", "send")
    assert (code, err) == (0, "")
    assert out.startswith("3 done.") and all(id in out for id in ids)
    paid = [format_id(call[1].id) for call in bank.calls if call[0] == "pay_order"]
    assert paid == ids
    receipt = tmp_path / "receipt.json"
    code, out, _ = tell("outbox", "show", ids[0], "--receipt", str(receipt))
    assert code == 0 and "done" in out and "entry 8" in out and "kept" in out
    assert decode_receipt(receipt.read_bytes()) == RECEIPT
    assert tell("outbox", "show", ids[0], "--receipt", str(tmp_path))[0] == 2
    code, out, _ = tell("outbox", "send")
    assert code == 0 and "Nothing to send." in out


def test_what_was_refused_is_told(bank: FakeBank, tell: Tell, reached: list[FortressError]) -> None:
    """Exit code 1, after everything else was sent."""
    bank.refuse("pay_order", Refused(Status.exceeds_available, {"available_minor": 9000}))
    id = add(tell)
    late = add(tell, "--not-after", "2020-01-01T00:00:00Z")
    code, out, err = tell("outbox", "send", "--json")
    assert code == 1
    assert (out["done"], out["refused"], out["expired"], out["queued"], out["sent"]) == (0, 1, 1, 0, 0)
    told = {order["id"]: order["code"] for order in out["orders"]}
    assert told == {id: "FT-1016", late: "FT-1051"}
    error = json_of(err)
    assert error["code"] == "FT-1016" and id in error["why"] and "90.00 EUR" in error["why"]
    code, out, err = tell("outbox", "send")
    assert code == 0  # told once


def json_of(err: str) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(err.splitlines()[-1])["error"]
    return found


def test_an_order_that_came_too_late_is_told(bank: FakeBank, tell: Tell, reached: list[FortressError]) -> None:
    """It was not sent, exit code 1."""
    id = add(tell, "--not-after", "2020-01-01T00:00:00Z")
    code, out, err = tell("outbox", "send")
    assert code == 1 and "1 expired." in out
    assert f"expired: {id}" in err and "FT-1051" in err
    assert "pay_order" not in [call[0] for call in bank.calls]
    assert tell("outbox", "show", id, "--receipt", "x")[0] == 2


def test_nobody_reached_is_exit_code_4(bank: FakeBank, tell: Tell, reached: list[FortressError]) -> None:
    """Everything stays; the next call goes on."""
    reached.append(Unreachable("no address answers"))
    add(tell)
    code, out, err = tell("--timeout", "0.5", "outbox", "send")
    assert code == 4 and "no address answers" in err and "FT-3006" in err
    assert "1 waits." in out
    reached.clear()
    bank.refuse("pay_order", GatewayUnreachable())
    code, _, err = tell("--timeout", "0.5", "outbox", "send")
    assert code == 4 and "FT-3010" in err
    assert tell("outbox", "list", "--json")[1][0]["code"] == "FT-3010"
    bank.refusals.clear()
    assert tell("outbox", "send")[0] == 0


def test_a_doubt_is_exit_code_5(bank: FakeBank, tell: Tell, reached: list[FortressError]) -> None:
    """It stays in the outbox, and cannot be taken out."""
    bank.refuse("pay_order", OutcomeUnknown())
    id = add(tell)
    code, out, err = tell("--timeout", "0.5", "outbox", "send")
    assert code == 5 and "1 not known yet." in out and "fortress outbox send" in err
    code, _, err = tell("outbox", "remove", id)
    assert code == 2 and "may have been done" in err


def test_a_refused_one_lets_the_next_one_go_on(
    bank: FakeBank, tell: Tell, reached: list[FortressError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds follow each other as long as something is answered."""
    ids = [add(tell) for _ in range(3)]
    pay, rounds = FakeBank.pay_order, iter([None, OutcomeUnknown(), None, None])

    async def now_and_then(me: FakeBank, order: PaymentOrder, *, order_signature: bytes = b"") -> Any:
        if (error := next(rounds)) is not None:
            raise error
        return await pay(me, order, order_signature=order_signature)

    monkeypatch.setattr(FakeBank, "pay_order", now_and_then)
    monkeypatch.setattr(client_outbox, "WAIT_S_MIN", 5.0)
    assert tell("--timeout", "1", "outbox", "send", "--json")[1]["done"] == 3
    assert [format_id(call[1].id) for call in bank.calls if call[0] == "pay_order"] == ids


def test_watching_sends_until_it_is_ended(
    bank: FakeBank, tell: Tell, reached: list[FortressError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends it; what was done is done."""
    add(tell)
    keep = OrderFile.keep_receipt

    def interrupt(*arguments: Any) -> None:
        keep(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(OrderFile, "keep_receipt", interrupt)
    assert tell("outbox", "send", "--watch")[0] == 130
    assert tell("outbox", "list", "--json")[1][0]["state"] == "done"


def test_what_has_its_answer_is_taken_out(bank: FakeBank, tell: Tell, reached: list[FortressError]) -> None:
    """One, or all of them; one that waits only by its name."""
    done, other = add(tell), add(tell)
    tell("outbox", "send")
    waiting = add(tell)
    assert tell("outbox", "remove", done, "--json")[1] == {"removed": [done]}
    assert tell("outbox", "remove", "--all", "--json")[1] == {"removed": [other]}
    assert "1 taken out." in tell("outbox", "remove", waiting)[1]
    assert tell("outbox", "list", "--json")[1] == []
    for wrong in ((), (done, "--all"), (done,)):
        assert tell("outbox", "remove", *wrong)[0] == 2


def test_an_outbox_may_lie_elsewhere_under_a_passphrase(
    bank: FakeBank, tell: Tell, reached: list[FortressError], secret_file: Path, tmp_path: Path
) -> None:
    """Without it nothing can be read."""
    where = ("--file", str(tmp_path / "elsewhere.db"), "--passphrase-file", str(secret_file))
    add(tell, *where)
    assert len(tell("outbox", "list", *where, "--json")[1]) == 1
    code, _, err = tell("outbox", "list", *where[:2])
    assert code == 2 and "FT-5006" in err
    assert tell("outbox", "send", *where)[0] == 0


def test_two_do_not_send_at_once(bank: FakeBank, tell: Tell, reached: list[FortressError], contexts: Contexts) -> None:
    """The second one is told so."""
    add(tell)
    file = OrderFile.open(contexts.outbox_file(contexts.get()))
    with file.sending():
        code, _, err = tell("outbox", "send")
    assert code == 2 and "FT-6009" in err
    file.close()
    assert OrderState.queued in {item["state"] for item in tell("outbox", "list", "--json")[1]}
