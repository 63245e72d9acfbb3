"""The project's own tools: checks that `make check` runs, documents made from the code, proofs.

Run from the root of the checkout as `python -m tools.NAME`. They read the code and never
import the product, except `tools.verify`, which runs it.
"""
