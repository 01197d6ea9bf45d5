"""One bank as Python objects: connect, sign in, move money, prove it; and many customers at once to try a bank.

For: programs of customers and services, the command line and the web pages, all of which are ordinary clients.
Knows: the messages and the sealed session of `protocol`, how to find the node that is primary, which requests may be
repeated and with which id, how to check a receipt without a server. Keys and passwords never leave this room.
Does not know: how a bank is run, its rules, its tables or its nodes' settings.
"""
