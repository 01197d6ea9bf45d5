"""The table of operations is whole, and the document made from it says what the table says."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from fortress.web.operations import OPERATIONS, Operation, openapi


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_what_fills_the_path_is_what_the_path_asks_for(operation: Operation) -> None:
    """Each name in braces is a field of the operation's path, and there is no other field."""
    named = re.findall(r"{([a-z_]+)}", operation.url)
    assert named == ([] if operation.path is None else list(operation.path.__struct_fields__))


def test_no_two_operations_have_the_same_name_or_the_same_address() -> None:
    """A name leads to one handler, and a method with an address to one operation."""
    names = Counter(each.name for each in OPERATIONS)
    places = Counter((each.method, each.url) for each in OPERATIONS)
    assert max(names.values()) == max(places.values()) == 1


def test_the_document_describes_every_operation() -> None:
    """Each operation is in the document by its name, and every reference in it leads somewhere."""
    document = openapi("1")
    found = {each["operationId"] for methods in document["paths"].values() for each in methods.values()}
    assert found == {each.name for each in OPERATIONS}
    references = set(re.findall(r"#/components/schemas/([A-Za-z]+)", str(document)))
    assert references <= document["components"]["schemas"].keys()
