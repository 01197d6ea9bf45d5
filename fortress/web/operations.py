# ruff: noqa: E501 - a table is read down its columns; a line for each operation
"""Every operation under ``/api``, one line each; routes, validation and the OpenAPI document derive from this table.

Paths are templates; the fields of ``path`` fill them. What is not GET changes something and needs the anti-forgery
header, also where it says that nobody need be signed in. ``site`` says where an operation exists: at a bank, at a
gateway, or at both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from fortress.web import administration as admin
from fortress.web import shapes

Where = Literal["bank", "gateway", "both", "demo"]
STAFF: Final = ("teller", "administrator", "auditor")
BOOKKEEPERS: Final = ("administrator", "auditor")
TELLERS: Final = ("teller",)
ADMINISTRATORS: Final = ("administrator",)
SIGNED_IN: Final = ("customer", *STAFF)
ANYBODY: Final[tuple[str, ...]] = ()

SPOKEN: Final = (shapes.Problem, shapes.EntryEvent, shapes.ConnectionEvent)
"""What no operation answers but the pages are told all the same: errors, and events of the stream."""
EVENT_STREAM: Final = "text/event-stream"
DOWNLOAD: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of the API.

    Attributes:
        name: of the handler, and the document's operationId.
        roles: who may ask, any of them; empty: nobody need be signed in.
        path, query, body: types of what comes in; None: nothing.
        answer: type of what goes out, or a media type for what is no JSON.
        where: at what kind of site it exists.
        needs_bank: whether it is of no use while the bank does not answer; what says so itself is.
        summary: one sentence.
    """

    name: str
    method: str
    url: str
    roles: tuple[str, ...]
    answer: Any
    summary: str
    path: Any = None
    query: Any = None
    body: Any = None
    where: Where = "both"
    needs_bank: bool = True


def _get(name: str, url: str, roles: tuple[str, ...], answer: Any, summary: str, **more: Any) -> Operation:
    return Operation(name=name, method="GET", url=url, roles=roles, answer=answer, summary=summary, **more)


def _post(name: str, url: str, roles: tuple[str, ...], answer: Any, summary: str, **more: Any) -> Operation:
    return Operation(name=name, method="POST", url=url, roles=roles, answer=answer, summary=summary, **more)


def _put(name: str, url: str, roles: tuple[str, ...], answer: Any, summary: str, **more: Any) -> Operation:
    return Operation(name=name, method="PUT", url=url, roles=roles, answer=answer, summary=summary, **more)


def _delete(name: str, url: str, roles: tuple[str, ...], answer: Any, summary: str, **more: Any) -> Operation:
    return Operation(name=name, method="DELETE", url=url, roles=roles, answer=answer, summary=summary, **more)


_ACCOUNT = "/api/accounts/{number}"
_USER = "/api/admin/users/{username}"
_HELD_ACCOUNT = "/api/admin/accounts/{number}"

SESSION: Final = (
    _get("site", "/api/site", ANYBODY, shapes.Site, "Tell which bank this is."),
    _get("session", "/api/session", SIGNED_IN, shapes.Session, "Tell who is signed in."),
    _post("begin_session", "/api/session", ANYBODY, shapes.Session, "Exchange a ticket for the session's cookie.", body=shapes.Ticket),
    _post("renew_session", "/api/session/renew", SIGNED_IN, shapes.Session, "Give the session its full time again."),
    _delete("end_session", "/api/session", SIGNED_IN, shapes.Done, "Sign out, for good and everywhere this session is."),
    _get("sessions", "/api/sessions", SIGNED_IN, shapes.SessionList, "List one's own sessions."),
    _delete("end_other_session", "/api/sessions/{id}", SIGNED_IN, shapes.Done, "End another of one's own sessions.", path=shapes.PaymentPath),
    _get("profile", "/api/profile", SIGNED_IN, shapes.Profile, "Read one's contact data."),
    _put("set_profile", "/api/profile", SIGNED_IN, shapes.Done, "Replace one's contact data.", body=shapes.Profile),
    _get("stream", "/api/stream", SIGNED_IN, EVENT_STREAM, "Be told of entries, and whether the bank answers."),
)  # fmt: skip

CUSTOMER: Final = (
    _get("accounts", "/api/accounts", SIGNED_IN, shapes.AccountList, "List one's own accounts.", where="bank"),
    _post("open_account", "/api/accounts", SIGNED_IN, shapes.Account, "Open an account.", body=shapes.AccountOpening, where="bank"),
    _get("account", _ACCOUNT, SIGNED_IN, shapes.Account, "Read one account.", path=shapes.AccountPath),
    _get("balances", f"{_ACCOUNT}/balances", SIGNED_IN, shapes.BalanceCurve, "Read the balances of past days.", path=shapes.AccountPath, query=shapes.BalanceQuery),
    _get("history", f"{_ACCOUNT}/history", SIGNED_IN, shapes.EntryPage, "Page through entries, newest first.", path=shapes.AccountPath, query=shapes.HistoryQuery),
    _get("statement", f"{_ACCOUNT}/statement", SIGNED_IN, shapes.Statement, "Cut a statement.", path=shapes.AccountPath, query=shapes.StatementQuery),
    _get("export", f"{_ACCOUNT}/export", SIGNED_IN, DOWNLOAD, "Download entries as a file.", path=shapes.AccountPath, query=shapes.ExportQuery),
    _get("payee", "/api/payees", SIGNED_IN, shapes.PayeeAnswer, "Tell a payee's name and account, before sending.", query=shapes.PayeeQuery, where="bank"),
    _post("pay", "/api/payments", SIGNED_IN, shapes.Payment, "Pay; the same id again is the same payment.", body=shapes.PaymentOrder, where="bank"),
    _get("payments", "/api/payments", SIGNED_IN, shapes.PaymentList, "List one's payments to and from other banks.", query=shapes.PaymentQuery, where="bank"),
    _get("payment", "/api/payments/{id}", SIGNED_IN, shapes.Payment, "Follow a payment, at all banks it touches.", path=shapes.PaymentPath),
    _get("receipt", "/api/payments/{id}/receipt", SIGNED_IN, shapes.Receipt, "Prove a payment.", path=shapes.PaymentPath),
    _get("holds", "/api/holds", SIGNED_IN, shapes.HoldList, "List what is reserved on one's accounts.", where="bank"),
    _get("banks", "/api/banks", SIGNED_IN, shapes.BankList, "List the banks that can be paid."),
)  # fmt: skip

ADMINISTRATION: Final = (
    _get("cluster", "/api/admin/cluster", STAFF, admin.Cluster, "Tell how the nodes are.", needs_bank=False),
    _get("cluster_stream", "/api/admin/stream", STAFF, EVENT_STREAM, "Be told how the nodes are, once a second.", needs_bank=False),
    _get("samples", "/api/admin/samples", STAFF, admin.Samples, "Give rate and latency of the last ten minutes.", needs_bank=False),
    _get("events", "/api/admin/events", STAFF, admin.EventList, "List what happened to the nodes.", needs_bank=False),
    _get("users", "/api/admin/users", STAFF, admin.UserList, "Page through the customers.", query=admin.Page),
    _get("user", _USER, STAFF, admin.User, "Read one customer.", path=admin.UserPath),
    _post("invite", "/api/admin/invitations", ADMINISTRATORS, admin.InvitationCode, "Make a code with which somebody registers.", body=admin.Invitation),
    _put("set_roles", f"{_USER}/roles", ADMINISTRATORS, shapes.Done, "Replace a customer's roles.", path=admin.UserPath, body=admin.Roles),
    _post("lock", f"{_USER}/lock", ADMINISTRATORS, shapes.Done, "Lock a customer out.", path=admin.UserPath, body=admin.Locking),
    _post("unlock", f"{_USER}/unlock", ADMINISTRATORS, shapes.Done, "Let a customer in again.", path=admin.UserPath, body=admin.Nothing),
    _post("erase", f"{_USER}/erase", ADMINISTRATORS, shapes.Done, "Erase a person; their entries stay.", path=admin.UserPath, body=admin.Command),
    _get("all_accounts", "/api/admin/accounts", STAFF, shapes.AccountList, "Page through accounts.", query=admin.AccountQuery),
    _post("open_account_for", "/api/admin/accounts", STAFF, admin.OpenedAccount, "Open an account for a customer.", body=admin.NewAccount, where="bank"),
    _get("held_account", _HELD_ACCOUNT, STAFF, admin.AccountHistory, "Read an account and its newest entries.", path=shapes.AccountPath),
    _post("freeze", f"{_HELD_ACCOUNT}/freeze", ADMINISTRATORS, shapes.Done, "Freeze an account.", path=shapes.AccountPath, body=admin.Freezing),
    _post("unfreeze", f"{_HELD_ACCOUNT}/unfreeze", ADMINISTRATORS, shapes.Done, "Open a frozen account again.", path=shapes.AccountPath, body=admin.Nothing),
    _post("close_account", f"{_HELD_ACCOUNT}/close", ADMINISTRATORS, shapes.Done, "Close an empty account.", path=shapes.AccountPath, body=admin.Nothing),
    _post("reopen_account", f"{_HELD_ACCOUNT}/reopen", ADMINISTRATORS, shapes.Done, "Open a closed account again.", path=shapes.AccountPath, body=admin.Nothing),
    _put("set_limits", f"{_HELD_ACCOUNT}/limits", ADMINISTRATORS, shapes.Done, "Set floor and limits.", path=shapes.AccountPath, body=admin.Limits),
    _post("deposit", "/api/admin/deposits", TELLERS, shapes.Done, "Pay cash in.", body=admin.CashOrder, where="bank"),
    _post("withdraw", "/api/admin/withdrawals", TELLERS, shapes.Done, "Pay cash out.", body=admin.CashOrder, where="bank"),
    _get("approvals", "/api/admin/approvals", ADMINISTRATORS, admin.ApprovalList, "List what waits for a second administrator."),
    _post("decide", "/api/admin/approvals/{id}", ADMINISTRATORS, shapes.Done, "Approve or decline what another one asked for.", path=admin.ApprovalPath, body=admin.Decision),
    _get("books", "/api/admin/books", BOOKKEEPERS, admin.Books, "Sum all accounts by currency."),
    _get("trail", "/api/admin/trail", BOOKKEEPERS, admin.TrailPage, "Page through administrative acts and refusals.", query=admin.TrailQuery),
    _get("doubts", "/api/admin/doubts", STAFF, admin.DoubtList, "List payments that are not decided everywhere."),
    _post("resolve_payment", "/api/admin/payments/{id}/resolve", ADMINISTRATORS, shapes.Done, "End a payment in doubt by hand.", path=shapes.PaymentPath, body=admin.Resolution),
    _post("add_bank", "/api/admin/banks", ADMINISTRATORS, shapes.Done, "Let a bank register.", body=admin.NewBank, where="gateway"),
    _post("suspend_bank", "/api/admin/banks/{bank}/suspend", ADMINISTRATORS, shapes.Done, "Refuse a bank's payments, or take them again.", path=admin.BankPath, body=admin.Suspension, where="gateway"),
    _get("positions", "/api/admin/positions", STAFF, admin.PositionList, "List where the banks stand.", where="gateway"),
    _get("windows", "/api/admin/windows", STAFF, admin.WindowList, "List settlement windows.", where="gateway"),
    _get("window", "/api/admin/windows/{number}", STAFF, admin.Window, "Report one window and compare it with the banks' books.", path=admin.WindowPath, where="gateway"),
    _post("close_window", "/api/admin/windows/close", ADMINISTRATORS, shapes.Done, "Close the open window.", body=admin.Command, where="gateway"),
    _get("lab", "/api/lab", STAFF, admin.LabView, "Show all processes of the demo.", where="demo", needs_bank=False),
    _post("lab_act", "/api/lab/{name}", ADMINISTRATORS, shapes.Done, "Kill, stop, wake or cut off a process of the demo.", path=admin.LabPath, body=admin.LabAct, where="demo", needs_bank=False),
)  # fmt: skip

OPERATIONS: Final[Sequence[Operation]] = (*SESSION, *CUSTOMER, *ADMINISTRATION)


def openapi(version: str) -> dict[str, Any]:
    """Describe all operations: an OpenAPI 3.1 document."""
    shapes_used = [shape for each in OPERATIONS for shape in (each.path, each.query, each.body, each.answer) if shape]
    types = {shape.__name__: shape for shape in (*shapes_used, *SPOKEN) if isinstance(shape, type)}
    _, components = msgspec.json.schema_components(list(types.values()), ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for each in OPERATIONS:
        paths.setdefault(each.url, {})[each.method.lower()] = _described(each, components)
    cookie = {"type": "apiKey", "in": "cookie", "name": "__Host-fortress-BANK"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Fortress pages", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"cookie": cookie}},
    }


def _described(operation: Operation, components: dict[str, Any]) -> dict[str, Any]:
    parameters = [*_parameters(operation.path, "path", components), *_parameters(operation.query, "query", components)]
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "security": [{"cookie": []}] if operation.roles else [],
        "parameters": parameters,
        "responses": {"200": _content(operation.answer, "done"), "default": _problem()},
    }
    if operation.method != "GET":
        header = {"name": "X-Fortress-Anti-Forgery", "in": "header", "required": True, "schema": {"type": "string"}}
        described["parameters"] = [*parameters, header]
    if operation.body:
        reference = {"$ref": f"#/components/schemas/{operation.body.__name__}"}
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
    return described


def _parameters(shape: Any, place: str, components: dict[str, Any]) -> list[dict[str, Any]]:
    if shape is None:
        return []
    schema = components[shape.__name__]
    required = schema.get("required", ())
    return [
        {"name": name, "in": place, "required": name in required, "schema": field}
        for name, field in schema["properties"].items()
    ]


def _content(answer: Any, words: str) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"description": words, "content": {answer: {"schema": {"type": "string"}}}}
    reference = {"$ref": f"#/components/schemas/{answer.__name__}"}
    return {"description": words, "content": {"application/json": {"schema": reference}}}


def _problem() -> dict[str, Any]:
    reference = {"$ref": "#/components/schemas/Problem"}
    return {"description": "an error", "content": {"application/problem+json": {"schema": reference}}}
