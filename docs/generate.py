"""Write the pages and the parts of pages that derive from the code: `python -m docs.generate`, run by `make docs`.

A whole page is a row of ``PAGES``. A part is a row of ``PARTS``, and stands in a page written by hand between two
comments, ``<!-- made: NAME -->`` and ``<!-- end -->``; what is between them is replaced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from docs import commands, example
from fortress import __version__, config, errors
from fortress.client.attempts import NOT_REPEATABLE, SETTLED_BY_REPEAT
from fortress.ledger import acts, entries, hold_rules, model, payment_rules, records, rules, segment
from fortress.protocol import connection, fields, frames, identity, messages, proofs, schnorr
from fortress.server.handlers import ONLY_BEFORE_LOGIN
from fortress.web import operations

ROOT = Path(__file__).resolve().parent
NOTE = "<!-- made by `make docs`; edits here are lost -->"
PART = re.compile(r"(<!-- made: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
GROUPS = {
    "sessions": "The session",
    "accounts": "People and accounts",
    "money": "Moving money",
    "reading": "Reading and proving",
    "administration": "Administration",
}
FAMILIES = {
    2: "Who you are",
    3: "Try again",
    4: "What was sent",
    5: "The ledger",
    6: "How it was called",
    7: "The nodes of a pair",
}
CODE_STEP = 1000
# what follows neither from the fields nor from the client's own tables
REPEATS = {
    "login_begin": "begin anew on a new connection",
    "login_finish": "begin anew on a new connection",
    "transfers": "repeat with the same ids",
    "invite": "repeat with a new id; the code is shown once",
    "approve": "repeat; `approval_already_decided` then means that it was decided",
}


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lay out a table; a bar in a cell is escaped."""
    lines = [list(head), ["---"] * len(head), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def sentence(owner: type) -> str:
    """Give a class's docstring as one paragraph of Markdown."""
    return re.sub(r"\s+", " ", (owner.__doc__ or "").strip()).replace("``", "`")


# --- types -----------------------------------------------------------------------------------------------------------
def number(value: int) -> str:
    """Write a number; the largest ones as powers of two."""
    return {2**63 - 1: "2^63-1", -(2**63 - 1): "-(2^63-1)"}.get(value, f"{value:,}".replace(",", " "))


def span(least: int | None, most: int | None, unit: str) -> str:
    """Say how many there may be."""
    if most is None:
        return f"at least {number(least or 0)} {unit}"
    if least == most:
        return f"{number(most)} {unit}"
    return f"{number(least)} to {number(most)} {unit}" if least else f"at most {number(most)} {unit}"


def type_text(kind: Any) -> str:
    """Say what values a type has."""
    match kind:
        case inspect.Metadata(type=inner, extra_json_schema=schema):
            form, meaning = type_text(inner), (schema or {}).get("description", "")
            if not meaning or meaning in form:
                return form
            return meaning if form in meaning else f"{form}: {meaning}"
        case inspect.IntType(ge=int(least), le=int(most)):
            return f"integer, {number(least)} to {number(most)}"
        case inspect.IntType():
            return "integer"
        case inspect.StrType(min_length=least, max_length=most, pattern=pattern):
            parts = ["text", *([span(least, most, "characters")] if least or most else [])]
            return ", ".join([*parts, *([f"matches `{pattern}`"] if pattern else [])])
        case inspect.BytesType(min_length=least, max_length=most):
            return span(least, most, "bytes") if least or most else "bytes"
        case inspect.ListType(item_type=item, min_length=least, max_length=most):
            return f"array of ({type_text(item)})" + (f", {span(least, most, 'items')}" if most else "")
        case inspect.VarTupleType(item_type=item):
            return f"array of ({type_text(item)})"
        case inspect.TupleType(item_types=items):
            return f"[{', '.join(type_text(item) for item in items)}]"
        case inspect.UnionType(types=kinds):
            return " or ".join(type_text(each) for each in kinds)
        case inspect.StructType(cls=cls):
            return f"[{cls.__name__}](#{cls.__name__.lower()})"
        case inspect.DictType(key_type=key, value_type=value):
            return f"map from {type_text(key)} to {type_text(value)}"
    names = {"BoolType": "boolean", "FloatType": "float", "NoneType": "nil", "AnyType": "anything"}
    return names[type(kind).__name__]


def default_text(field: inspect.Field) -> str:
    """Say what a field is when it is left out."""
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return {"": "empty", "b''": "empty", "[]": "empty"}.get(repr(value) if value != "" else "", f"`{plain(value)}`")


def plain(value: object) -> str:
    """Write a default value as it would be in JSON."""
    return msgspec.json.encode(value).decode()


def structs_of(kind: Any) -> list[type]:
    """List the structs that a type mentions, outermost first."""
    match kind:
        case inspect.Metadata(type=inner) | inspect.ListType(item_type=inner):
            return structs_of(inner)
        case inspect.StructType(cls=cls, fields=inside):
            return [cls, *(each for field in inside for each in structs_of(field.type))]
    return []


def fields_of(struct: type) -> tuple[inspect.Field, ...]:
    """Give a struct's fields."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return info.fields


# --- pages -----------------------------------------------------------------------------------------------------------
def operations_page() -> str:
    """Describe every operation: who may, what it takes, what it answers."""
    parts = [
        f"# Operations\n\n{NOTE}\n",
        "How a message is laid out, and what every request shares, says the [protocol](protocol.md); why one is"
        " refused, the [rules of the ledger](ledger-rules.md) and the [list of errors](errors.md). A field left out"
        " has its default; a key that is not listed is refused. In answers a field may be missing when it has its"
        " default, and readers skip keys they do not know. `id` is the caller's own, 16 bytes, and makes a request"
        " repeatable: the same id with the same content is done once.\n",
    ]
    for module, title in GROUPS.items():
        rows = [row for row in messages.OPERATIONS.values() if row.request.__module__.endswith(f".{module}")]
        parts.append(f"## {title}\n")
        parts += [operation_text(row) for row in rows]
    parts.append("## Structures\n\nMaps that operations carry inside, or arrays where it says so.\n")
    answers: dict[type, None] = {}
    inner: dict[type, None] = {fields.Refusal: None}
    for row in messages.OPERATIONS.values():
        answers[row.answer] = None
        for struct in (row.request, row.answer):
            inner.update(dict.fromkeys(structs_of(inspect.type_info(struct))[1:]))
    from fortress.protocol.reading import EntryPush

    inner |= {EntryPush: None} | answers
    parts += [struct_text(struct) for struct in sorted(inner, key=lambda each: each.__name__)]
    return "\n".join(parts)


def operation_text(row: messages.Operation) -> str:
    """Describe one operation."""
    who = ", ".join(row.roles) if row.roles else "anybody, signed in or not"
    if row.name in ONLY_BEFORE_LOGIN:
        who = "anybody, before the login"
    facts = [f"**Who:** {who}.", f"**Answers:** [{row.answer.__name__}](#{row.answer.__name__.lower()})."]
    facts.append(f"**Without an answer:** {repeat_text(row)}.")
    takes = [(f"`{each.name}`", type_text(each.type), default_text(each)) for each in fields_of(row.request)]
    shown = table(("field", "takes", "default"), takes) if takes else "Takes no fields.\n"
    return f"### {row.name}\n\n{sentence(row.request)}\n\n{' '.join(facts)}\n\n{shown}"


def repeat_text(row: messages.Operation) -> str:
    """Say what a client does when no answer came."""
    if row.name in REPEATS:
        return REPEATS[row.name]
    if not row.writes:
        return "ask again"
    if row.name in NOT_REPEATABLE:
        return "do not repeat; find out whether it was done"
    if row.name in SETTLED_BY_REPEAT:
        return "repeat; `account_state_conflict` then means that it is so"
    return "repeat with the same id" if "id" in row.request.__struct_fields__ else "repeat; twice is as good as once"


def struct_text(struct: type) -> str:
    """Describe one structure."""
    rows = [(f"`{each.name}`", type_text(each.type)) for each in fields_of(struct)]
    own = sentence(struct) if not (struct.__doc__ or "").startswith(f"{struct.__name__}(") else ""
    own = own if own != sentence(fields.Answer) else ""
    info = inspect.type_info(struct)
    shape = "An array, in this order.\n\n" if isinstance(info, inspect.StructType) and info.array_like else ""
    return f"### {struct.__name__}\n\n{own + chr(10) * 2 if own else ''}{shape}{table(('field', 'is'), rows)}"


def errors_page() -> str:
    """List every refusal and error."""
    refused = [
        (
            f"FT-{errors.refusal_code(status)}",
            f"`{status.name}`",
            errors.STATUS_SENTENCES[status],
            errors.STATUS_HINTS.get(status, ""),
        )
        for status in errors.Status
        if status
    ]
    parts = [
        f"# Errors\n\n{NOTE}\n",
        "Every answer that is not a success carries one of these codes; `fortress explain` shows the same list."
        " Codes and status numbers keep their meaning for ever. What `retry` means says the"
        " [protocol](protocol.md#refusals-errors-and-retrying).\n",
        "## Refused by the bank\n",
        "The rules said no. The code on the wire is 1000 and the status's number. A refusal is remembered under the"
        f" request's id and repeats; `retry` is `new_id`. Without a hint of its own: {errors.DEFAULT_REFUSAL_HINT}.\n",
        table(("code", "status", "sentence", "hint"), refused),
    ]
    for digit, title in FAMILIES.items():
        parts.append(f"## {title}\n")
        rows = [
            (
                f"FT-{code}",
                f"`{cls.__name__}`",
                (cls.__doc__ or "").split("\n")[0].rstrip("."),
                f"`{cls.retry}`",
                cls.hint,
            )
            for code, cls in sorted(errors.ERRORS_BY_CODE.items())
            if code // CODE_STEP == digit
        ]
        parts.append(table(("code", "name", "sentence", "retry", "hint"), rows))
    return "\n".join(parts)


# --- parts -----------------------------------------------------------------------------------------------------------
def limits_part() -> str:
    """List the protocol's limits."""
    server = config.ServerSettings()
    most = number
    rows = [
        ("a frame, without its length", f"{most(frames.FRAME_SIZE_BYTES_MAX)} bytes"),
        ("plaintext in a frame", f"{most(frames.PLAINTEXT_SIZE_BYTES_MAX)} bytes"),
        ("a message before the login", f"{most(frames.MESSAGE_SIZE_BYTES_MAX_BEFORE_LOGIN)} bytes"),
        ("a message after it", f"{most(frames.MESSAGE_SIZE_BYTES_MAX)} bytes"),
        ("frames sent under one key", most(connection.REKEY_AFTER_FRAMES)),
        ("certificates in message 2", most(identity.CHAIN_LENGTH_MAX)),
        ("the payload of message 2", f"{most(identity.PAYLOAD_SIZE_BYTES_MAX)} bytes"),
        ("handshake and login together, as a client counts", f"{connection.LOGIN_DEADLINE_S:g} s"),
        ("the same, as the bank counts (`server.handshake_s`)", f"{server.handshake_s} s"),
        ("silence on a connection (`server.idle_s`)", f"{server.idle_s} s"),
        ("requests that wait on one connection (`server.outstanding_max`)", most(server.outstanding_max)),
        (
            "connections from one address (`server.connections_per_address_max`)",
            most(server.connections_per_address_max),
        ),
        ("pushes that wait for a slow reader (`server.push_rows_max`)", most(server.push_rows_max)),
        ("rows in one batch", most(fields.BATCH_ROWS_MAX)),
        ("rows in one page", most(fields.PAGE_ROWS_MAX)),
        ("any integer", number(fields.INTEGER_MAX)),
        ("hashes in a proof", most(proofs.PATH_LENGTH_MAX)),
    ]
    return table(("what", "at most"), rows)


def kdf_part() -> str:
    """List what a client accepts of Argon2id."""
    least, usual, most = schnorr.KDF_PARAMETERS_MIN, schnorr.KdfParameters(), schnorr.KDF_PARAMETERS_MAX
    names = schnorr.KdfParameters.__struct_fields__
    rows = [(f"`{name}`", *(number(getattr(each, name)) for each in (least, usual, most))) for name in names]
    return table(("parameter", "least accepted", "usual", "most accepted"), rows)


def states_part() -> str:
    """Show the states of a connection and what leads from one to another."""
    rows = [
        (f"`{state.name}`", f"`{event.name}`", f"`{to.name}`")
        for (state, event), to in connection.TRANSITIONS.items()
        if state is not to
    ]
    return table(("from", "event", "to"), rows)


def example_part() -> str:
    """Show the worked example."""
    return f"```text\n{example.block()}\n```\n"


def entries_part() -> str:
    """List the kinds of entries with their fields in order."""
    parts = []
    for tag, kind in sorted(entries.KINDS.items()):
        rows = [(1, "", f"integer, {tag}")]
        rows += [(at, f"`{each.name}`", type_text(each.type)) for at, each in enumerate(fields_of(kind), 2)]
        parts.append(f"#### {tag}: {kind.__name__}\n\n{sentence(kind)}\n\n{table(('place', 'field', 'is'), rows)}")
    return "\n".join(parts)


def enums_part() -> str:
    """List the numbers that entries hold for kinds and states."""
    kinds: tuple[type[IntEnum], ...] = (
        *(model.TransferKind, model.HoldState, model.AccountKind, model.AccountState, model.CustomerState),
    )
    return table(
        ("what", "numbers"),
        [(kind.__name__, ", ".join(f"{each.value} {each.name}" for each in kind)) for kind in kinds],
    )


def header_part() -> str:
    """List a record's fields in order."""
    return f"`[{', '.join(records.Record.__struct_fields__)}]`\n"


def segment_part() -> str:
    """List the sizes of the segment file."""
    names = ", ".join(segment.SegmentHeader.__struct_fields__)
    rows = [
        ("a block", f"{segment.BLOCK_SIZE_BYTES} bytes"),
        ("the fields of the header, in order", names),
        ("a record, at most", f"{number(records.RECORD_SIZE_BYTES_MAX)} bytes"),
        ("magic of a record and of the footer", f"`{segment.RECORD.decode()}`, `{segment.FOOTER.decode()}`"),
        ("size of a segment (`ledger.segment_bytes`)", f"{number(config.LedgerSettings().segment_bytes)} bytes"),
    ]
    return table(("what", "is"), rows)


def precedence_part() -> str:
    """List the checks of a transfer in their order."""
    rows = [(at, f"`{status.name}`", errors.STATUS_SENTENCES[status]) for at, status in enumerate(rules.PRECEDENCE, 1)]
    return table(("check", "status", "says"), rows)


def payment_precedence_part() -> str:
    """List the checks of a leg of a payment between banks in their order."""
    order = payment_rules.PRECEDENCE
    rows = [(at, f"`{status.name}`", errors.STATUS_SENTENCES[status]) for at, status in enumerate(order, 1)]
    return table(("check", "status", "says"), rows)


def account_acts_part() -> str:
    """List the acts on an account's state."""
    rows = [
        (f"`{act}`", ", ".join(model.AccountState(state).name for state in starts), model.AccountState(end).name)
        for act, (starts, end) in acts.ACCOUNT_ACTS.items()
    ]
    return table(("act", "from", "to"), rows)


def rule_numbers_part() -> str:
    """List the numbers that the rules know."""
    day_us = model.DAY_US
    rows = [
        ("accounts of one customer", acts.ACCOUNTS_PER_CUSTOMER_MAX),
        ("days that a value date may lie before or after today", rules.VALUE_DATE_DAYS_MAX),
        ("days that a hold may last", hold_rules.HOLD_SPAN_US_MAX // day_us),
        ("seconds that the time in an id may lie ahead (`ledger.id_skew_s`)", config.LedgerSettings().id_skew_s),
        ("any counter of an account", number(model.INTEGER_MAX)),
    ]
    return table(("what", "at most"), rows)


def openapi_document() -> str:
    """Describe the API of the pages."""
    return json.dumps(operations.openapi(__version__), indent=1, ensure_ascii=False) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "reference/operations.md": operations_page,
    "reference/errors.md": errors_page,
    "reference/cli.md": lambda: commands.page(NOTE, table),
    "reference/settings.md": config.reference_table,
    "reference/openapi.json": openapi_document,
}
PARTS: dict[str, Callable[[], str]] = {
    "limits": limits_part,
    "kdf": kdf_part,
    "states": states_part,
    "example": example_part,
    "entries": entries_part,
    "enums": enums_part,
    "record": header_part,
    "segment": segment_part,
    "precedence": precedence_part,
    "payment-precedence": payment_precedence_part,
    "account-acts": account_acts_part,
    "rule-numbers": rule_numbers_part,
}


def refresh(text: str) -> str:
    """Make the generated parts of a page anew."""
    return PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n{found[3]}", text)


def fresh_pages() -> dict[Path, str]:
    """Give every page as it ought to be."""
    found = {ROOT / name: make() for name, make in PAGES.items()}
    for path in sorted(ROOT.rglob("*.md")):
        if "_build" not in path.parts and path not in found:
            found[path] = refresh(path.read_text("utf-8"))
    return found


if __name__ == "__main__":
    for path, text in fresh_pages().items():
        path.write_text(text, "utf-8")
