"""The loop of queue runners ends when it is told to, whatever else happens then."""

from __future__ import annotations

import asyncio

from postroom.mailflow.queueing import wake_or


async def test_who_waits_hears_the_event_or_the_time() -> None:
    event = asyncio.Event()
    assert await wake_or(event, 0.01) is False
    event.set()
    assert await wake_or(event, 10) is True


async def test_a_cancellation_that_comes_with_the_event_is_not_lost() -> None:
    """It would be with asyncio.wait_for of Python 3.11, and a worker would never stop."""
    event = asyncio.Event()

    async def loop() -> None:
        while True:
            await wake_or(event, 0.2)
            event.clear()

    task = asyncio.create_task(loop())
    await asyncio.sleep(0.01)
    event.set()
    await asyncio.sleep(0)  # the waiter is done, and whoever waited has not run yet
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=2)
    assert done
    assert task.cancelled()
