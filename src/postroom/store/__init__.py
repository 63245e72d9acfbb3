"""Where things are kept: engines, units with group commit, blobs, journal, migrations.

Floor 2. May import: core, formats, wire. Called by domain and by server for wiring.
"""
