"""The catalogue of refusals and errors: one code each, one sentence each, and back again from the wire."""

from __future__ import annotations

import pytest

from fortress import errors
from fortress.errors import (
    ERRORS_BY_CODE,
    STATUS_SENTENCES,
    FortressError,
    LoginFailed,
    Refused,
    Status,
    error_from_wire,
    refusal_code,
    status_name,
)

FAMILIES = {
    1: "Refused",
    2: "AuthenticationError",
    3: "RetryableError",
    4: "ProtocolError",
    5: "LedgerError",
    7: "PairError",
}


def all_errors() -> list[type[FortressError]]:
    found = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, FortressError)]
    return sorted(found, key=lambda cls: cls.code)


def test_a_code_is_given_once() -> None:
    """A second class of the same code fails where it is written, and changes nothing."""
    with pytest.raises(TypeError, match="2001 is given to both LoginFailed and Twin"):
        type("Twin", (FortressError,), {"code": 2001})
    assert ERRORS_BY_CODE[2001] is LoginFailed


def test_a_class_without_a_code_shares_its_familys() -> None:
    """A finer distinction inside one program needs no number of its own."""
    assert type("Finer", (LoginFailed,), {}).__dict__.get("code") is None
    assert ERRORS_BY_CODE[2001] is LoginFailed


@pytest.mark.parametrize("cls", all_errors(), ids=lambda cls: str(cls.__name__))
def test_every_error_can_be_explained(cls: type[FortressError]) -> None:
    """Each has a code of its own within its family, a sentence, a hint and a rule for trying again."""
    assert ERRORS_BY_CODE[cls.code] is cls
    family = FAMILIES.get(cls.code // 1000, "FortressError")
    assert family in {base.__name__ for base in cls.__mro__}
    assert (cls.__doc__ or "").split("\n")[0].endswith(".")
    assert cls.hint and not cls.hint.endswith(".")
    assert cls.retry in {"never", "same_id", "new_id", "elsewhere"}


def test_an_error_without_a_message_says_its_sentence() -> None:
    """The class's own first sentence, in lower case and without its stop."""
    error = LoginFailed()
    assert (str(error), error.message, error.facts) == ("username or password is wrong",) * 2 + ({},)


@pytest.mark.parametrize("status", [status for status in Status if status])
def test_a_refusal_comes_back_from_the_wire(status: Status) -> None:
    """The client raises what the bank refused, with its facts."""
    error = error_from_wire(refusal_code(status), "ignored", {"available_minor": 5})
    assert isinstance(error, Refused)
    assert (error.status, error.message) == (status, STATUS_SENTENCES[status])
    assert error.facts == {"available_minor": 5}


@pytest.mark.parametrize("cls", [cls for cls in all_errors() if cls is not Refused], ids=lambda cls: str(cls.__name__))
def test_an_error_comes_back_from_the_wire(cls: type[FortressError]) -> None:
    """Code, message and facts make the same error again."""
    error = error_from_wire(cls.code, "why", {"field": "amount"})
    assert (type(error), error.message, error.facts) == (cls, "why", {"field": "amount"})


@pytest.mark.parametrize("code", [0, 1000, 1999, 2999, -1, 10**9])
def test_an_unknown_code_keeps_its_number(code: int) -> None:
    """An older client still shows what a newer bank said."""
    error = error_from_wire(code, "something new", {})
    assert type(error) is FortressError
    assert str(code) in error.message and "something new" in error.message


def test_a_status_is_named_for_people() -> None:
    """An unknown one keeps its digits."""
    assert (status_name(16), status_name(999)) == ("exceeds_available", "status_999")
