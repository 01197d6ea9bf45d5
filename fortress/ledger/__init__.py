"""Double entry: what money, accounts, holds and customers are, which commands are right, and what was written down.

Knows the nouns, the rules, the journal's bytes and the tables behind them. Knows no network, no asyncio and no
client: whoever calls brings the time, the ids and the threads. `model`, `rules`, `entries`, `records` and `merkle`
are pure; `journal` and `store` touch the disk and are called from pool threads.
"""
