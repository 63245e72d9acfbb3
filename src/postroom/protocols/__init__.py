"""What clients and other servers speak; a folder each, which do not import each other.

Floor 6.
"""
