"""A client that stays connected to a hub, for scripts, agents and consoles.

A script watches through the hooks, each an async iterator that is subscribed while its context is open::

    from qubix_tui.client import connect

    async with connect("ws://localhost:3001") as client:
        async with client.provider_metrics("rig-7-3f9a1c") as updates:
            async for update in updates:
                print(update.metrics.gpu_percent, update.metrics.gpu_temp)

``marketplace_updates()`` gives what happens to providers and jobs, ``job_progress(id)`` one job until it is
completed. A program with more to do uses `Connection`: handlers by event type (`Connection.on`), counted
subscriptions (`Connection.subscribe`), requests (`Connection.request`) and fire-and-forget messages
(`Connection.send`).

When the connection is lost it is dialled again by its `RetryPolicy` (`GUIDE`, `CONSOLE` or `AGENT`),
everything is subscribed again, and what was missed is asked for. Every ordered event reaches a handler at
most once; where events are gone for good, `Connection.on_gap` handlers are told.
"""

from qubix_tui.client.address import Address, check_url
from qubix_tui.client.connection import Connection
from qubix_tui.client.errors import (
    BadUrl,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    InsecureToken,
    Refused,
    RequestTimeout,
    SlowConsumer,
)
from qubix_tui.client.failures import Remedy
from qubix_tui.client.hooks import Client, Updates, connect
from qubix_tui.client.retry import AGENT, CONSOLE, GUIDE, RetryPolicy
from qubix_tui.client.states import ConnectionState

__all__ = [
    "AGENT",
    "CONSOLE",
    "GUIDE",
    "Address",
    "BadUrl",
    "Client",
    "ClientError",
    "ConnectFailed",
    "Connection",
    "ConnectionLost",
    "ConnectionState",
    "InsecureToken",
    "Refused",
    "Remedy",
    "RequestTimeout",
    "RetryPolicy",
    "SlowConsumer",
    "Updates",
    "check_url",
    "connect",
]
