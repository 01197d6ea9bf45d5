"""One file per question of speed, each ending in one line of JSON.

Knows Fortress only from outside, as a process to start and a client to call, and the peers it is compared with. Knows
nothing of how either is built. The workload and the commands are in README.md.
"""
