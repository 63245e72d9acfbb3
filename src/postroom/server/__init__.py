"""Processes and wiring: supervisor, workers, sockets, jobs.

Floor 7. Everything is constructed here, in one readable place.
"""
