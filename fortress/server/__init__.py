"""One node on the wire: takes connections, says who is there, hands each request to what answers it.

For: the command line, which builds a node from its folder and runs it.
Knows: sockets, TLS, sessions, logins, tokens, the table of handlers, limits on everything a peer can make grow.
Does not know: how a transfer is judged or kept (the ledger's rooms do), nor pages and metrics (it only offers
`statistics()`).
"""
