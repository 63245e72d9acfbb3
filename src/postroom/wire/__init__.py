"""What is said on a line: codecs that a server, a client, a test and a fuzzer share.

Floor 1. May import: core, formats. A folder for each protocol; no socket, clock or database here.
"""
