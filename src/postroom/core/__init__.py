"""What everyone shares: errors with status codes, ids, clock, settings, declarations, log.

Floor 0. Imports nothing of the house. Everything here is free of protocol and policy.
"""
