"""The documents' own programs: what writes the generated pages, and the worked example of the protocol.

For: `make docs` and `tests/test_docs.py`.
Knows: every room of Fortress, read only.
Does not know: how the pages become HTML (`conf.py` and Sphinx do).
"""
