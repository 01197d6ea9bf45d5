"""Many banks as one payment: two-phase commit over the two-phase transfers of three ledgers.

For paying across banks, for relaying customers to their own bank, and for settling what the banks owe each other. Knows
banks, payments and links between them; knows nothing of what a relayed customer and their bank say to each other.
"""
