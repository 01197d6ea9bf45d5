"""Who is primary: two nodes of one bank and a register that decides between them.

For mirroring every commit to a standby and for taking over when the primary is gone, with nothing lost and nothing done
twice. Knows journals and records; knows nothing of customers, accounts, sessions or of what an entry means.
"""
