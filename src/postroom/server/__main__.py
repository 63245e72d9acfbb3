"""`python -m postroom.server`: the program that `postroom serve` becomes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from postroom.core import log
from postroom.core.errors import MailError, Misuse
from postroom.server.options import parse_serve
from postroom.server.serve import ServeOptions, serve


def main(argv: Sequence[str]) -> int:
    """Serve until stopped; the exit status."""
    given = parse_serve(argv)
    log.configure(given.log_format)
    options = ServeOptions(
        data=given.data,
        port_offset=given.port_offset,
        bind=given.bind,
        workers=given.workers,
        domain=given.domain,
        user=given.user,
        reach=given.reach,
    )
    try:
        return serve(options)
    except MailError as error:
        detail = f" ({error.detail})" if error.detail else ""
        print(f"postroom: {error}{detail}", file=sys.stderr)  # noqa: T201 - a person started us
        return 2 if isinstance(error, Misuse) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
