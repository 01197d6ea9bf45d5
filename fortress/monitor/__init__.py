"""The room that looks and never touches: one small site per node with its state and its numbers.

It knows how to show a snapshot: as JSON for people and scripts, as metrics for Prometheus, as a yes or no for probes
and load balancers. It does not know who counts, where the numbers come from or what a bank is; it is handed a function
that returns a snapshot and calls it once for each request.
"""
