"""A certificate store with one self-signed certificate."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.core.clock import SystemClock
from postroom.net.certificates import CertificateStore, self_signed


@pytest.fixture
def certificates(tmp_path: Path) -> CertificateStore:
    store = CertificateStore(str(tmp_path), [("line",)])
    store.write("self-signed", *self_signed(["mail.example.test"], SystemClock().now()))
    store.reload()
    return store
