"""The pages: an ordinary client of one bank (or gateway) that speaks HTTP to browsers.

Knows: HTTP, cookies, the client library, the shapes of its JSON. Knows nothing of the ledger, of passwords or keys, and
decides nothing about money: what a signed-in person may do, the bank decides. It keeps no session of its own either; a
cookie holds the bank's token, so any process of `fortress web` can answer any request.
"""
