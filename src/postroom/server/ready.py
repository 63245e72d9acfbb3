"""`python -m postroom.server.ready`: what `postroom ready` becomes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from postroom.core.terminal import DONE, REFUSED, unbroken
from postroom.server.instance import Layout, wait_ready
from postroom.server.options import parse_ready


def main(argv: Sequence[str]) -> int:
    """Wait; the exit code."""
    data, timeout = parse_ready(argv)
    layout = Layout(os.path.abspath(data))
    code = unbroken(lambda: DONE if wait_ready(layout, timeout) else REFUSED)
    if code == REFUSED:
        print(  # noqa: T201 - whoever waits wants to know what for
            f"postroom: The server on {layout.root} was not ready within {timeout:g} s",
            file=sys.stderr,
        )
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
