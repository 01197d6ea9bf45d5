"""Many banks as one payment: two-phase commit over two-phase transfers, relay, directory, settlement."""
