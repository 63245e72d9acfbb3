"""A small internet for tests and rehearsal: clocks, faults, peers, scripted clients.

Beside the floors: may import every room, and no room of the product imports it.
"""
