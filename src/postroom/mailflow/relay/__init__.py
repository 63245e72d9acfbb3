"""Mail for other servers: found in DNS, brought there, and what came of it recorded.

`runner` leases destinations, `destination` serves one with as many connections as it is worth,
`dialing` makes a connection to the best host that answers, `cargo` is one message on its way out.
`trial` asks a smart host whether it would take mail.
Called by `server`, which runs one `RemoteQueue` in each worker.
"""

from postroom.mailflow.relay.dialing import Dialer
from postroom.mailflow.relay.hosts import Finder
from postroom.mailflow.relay.runner import RemoteQueue
from postroom.mailflow.relay.trial import Trial, try_host

__all__ = ["Dialer", "Finder", "RemoteQueue", "Trial", "try_host"]
