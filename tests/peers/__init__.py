"""Clients that are not ours, one file each: what each does to a running server, and what it sees.

`tests/verify/peers.py` runs them. A file has `walk(at, checks, plan)`; what does not hold goes
into the checks, with the words that show it.
"""
