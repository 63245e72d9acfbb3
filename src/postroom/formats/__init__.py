"""What bytes mean: addresses, headers, MIME, composition. Pure and bounded.

Floor 1. May import: core. Called by every room above. No socket, clock or database here.
"""
