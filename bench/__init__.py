"""One file per question of speed, each ending in one line of JSON.

Knows Fortress from outside, as a process to start and a client to call, and the peers it is compared with. Only banks
are filled, and growth is measured, through the ledger's own engine: over the network that would take hours. The
workload and the commands are in README.md.
"""
