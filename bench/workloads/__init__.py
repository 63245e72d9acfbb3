"""What is measured. Each workload is one class; the table below is all of them, in order."""

from __future__ import annotations

from bench.model import Workload
from bench.workloads.floors import Fsync
from bench.workloads.footprint import Huge, Idle, Startup
from bench.workloads.growth import Growth
from bench.workloads.hostile import Hostile
from bench.workloads.imap_login import Login, LoginKnown
from bench.workloads.imap_many import Append, Mixed
from bench.workloads.imap_one import Read
from bench.workloads.relaying import Relay, SignedIn
from bench.workloads.signing import Dkim
from bench.workloads.smtp import Accept, Checked, Deliver, Paced, Shares

__all__ = ["WORKLOADS"]

WORKLOADS: tuple[Workload, ...] = (
    Fsync(),
    Accept(),
    Checked(),
    Paced(),
    Deliver(),
    Shares(),
    SignedIn(),
    Relay(),
    Read(),
    Login(),
    LoginKnown(),
    Growth(),
    Append(),
    Mixed(),
    Idle(),
    Huge(),
    Startup(),
    Hostile(),
    Dkim(),
)
