"""How much goes through the network: bytes per second over the interfaces that lead out of the machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil

from agent.sensors.base import Monotonic, difference

_NET_CLASS: Final = Path("/sys/class/net")
_NET_DEV: Final = Path("/proc/net/dev")
_RECEIVED, _SENT = 0, 8

_VIRTUAL_PREFIXES: Final = (
    *("lo", "docker", "br-", "veth", "virbr", "vnet", "cni", "flannel", "cali"),
    *("ifb", "dummy", "tun", "tap", "wg", "utun", "awdl", "llw", "bridge", "gif", "stf", "anpi"),
)
"""Interfaces whose traffic is counted again where it leaves the machine."""

_LOOPBACKS: Final = frozenset({"lo", "lo0"})


class NetworkMeter:
    """Bytes per second over all interfaces through which the machine speaks to others."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}
        self._read_at: float | None = None
        self._names: frozenset[str] = frozenset()
        self._counted: frozenset[str] = frozenset()

    def read(self, monotonic: Monotonic) -> tuple[float | None, float | None]:
        """Give received and sent; None where no counter can be compared with an earlier one.

        Args:
            monotonic: The clock; asked right after the counters, so that the interval is theirs.
        """
        return self.rates(read_counters(), monotonic())

    def rates(self, counters: Mapping[str, tuple[int, int]], now: float) -> tuple[float | None, float | None]:
        """Compare counters of bytes received and sent, by interface, with those of the last call."""
        if counters.keys() != self._names:
            self._names = frozenset(counters)
            self._counted = outward_interfaces(self._names)
        last, last_at = self._last, self._read_at
        self._last = {name: counters[name] for name in self._counted}
        self._read_at = now
        if last_at is None or now <= last_at:
            return None, None
        both = [name for name in self._last if name in last]
        return (
            _rate([difference(last[name][0], self._last[name][0]) for name in both], now - last_at),
            _rate([difference(last[name][1], self._last[name][1]) for name in both], now - last_at),
        )


def read_counters(path: Path = _NET_DEV) -> dict[str, tuple[int, int]]:
    """Give the bytes that each interface has received and sent.

    Args:
        path: Where Linux tells of them (proc_pid_net(5)).
    """
    try:
        lines = path.read_bytes().decode(errors="replace").splitlines()[2:]
        fields = ((name.strip(), rest.split()) for name, _, rest in (line.rpartition(":") for line in lines))
        return {name: (int(counters[_RECEIVED]), int(counters[_SENT])) for name, counters in fields}
    except (OSError, ValueError, IndexError):
        told = psutil.net_io_counters(pernic=True, nowrap=False)
        return {name: (counter.bytes_recv, counter.bytes_sent) for name, counter in told.items()}


def _rate(differences: list[int | None], seconds: float) -> float | None:
    known = [amount for amount in differences if amount is not None]
    return round(sum(known) / seconds, 1) if known else None


def outward_interfaces(names: frozenset[str], root: Path = _NET_CLASS) -> frozenset[str]:
    """Choose the interfaces to count: those with hardware behind them, so that nothing is counted twice.

    Where there are none (inside a container) it is all but the loopback; where that can't be told (other
    systems than Linux) the ones with the names of virtual interfaces are left out.
    """
    others = names - _LOOPBACKS
    if root.is_dir():
        chosen = frozenset(name for name in others if _has_hardware(root / name))
    else:
        chosen = frozenset(name for name in others if not name.startswith(_VIRTUAL_PREFIXES))
    return chosen or others


def _has_hardware(interface: Path) -> bool:
    # On some clouds one card shows as two interfaces, of which the second is the first one's slave.
    return (interface / "device").exists() and not (interface / "master" / "device").exists()
