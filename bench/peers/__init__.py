"""Servers under measurement, each in a temporary directory, on loopback, with ports of its own.

Nothing under /etc is read or written. Peers keep the durability that they ship with.
"""
