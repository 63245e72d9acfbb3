"""How bytes move: accepting, TLS, connections with back-pressure.

Floor 2. May import: core, formats, wire. Called by protocols and server.
"""
