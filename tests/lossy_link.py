"""Two hosts on this machine, and between them a link that loses packets, takes time, or is cut.

Each host is a network namespace with a TUN device; this process carries the packets from one to
the other. So no kernel module for emulated networks is needed, but the right to make namespaces is.
"""

from __future__ import annotations

import ctypes
import fcntl
import math
import os
import select
import shutil
import struct
import subprocess
import threading
import time
from collections import deque
from random import Random
from typing import Any, Deque, List, Optional, Tuple

__all__ = ["HOSTS", "LossyLink", "why_not"]

#: Addresses of the two hosts, of a range for tests of networks (RFC 2544).
HOSTS = ("198.18.77.1", "198.18.77.2")
#: From linux/if_tun.h and sched.h.
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
MOST_BYTES = 65536


def why_not() -> Optional[str]:
    """Why hosts can't be made here; None if they can."""
    if shutil.which("ip") is None:
        return "there is no ip command (iproute2)"
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    probe = "bert-serving-probe-%d" % os.getpid()
    made = subprocess.run(["ip", "netns", "add", probe], stderr=subprocess.PIPE, text=True)
    if made.returncode:
        return "no network namespace can be made: %s" % made.stderr.strip()
    subprocess.run(["ip", "netns", "delete", probe], check=True)
    return None


class LossyLink:
    """``delay`` seconds each way, ``loss`` the share of packets that don't arrive; both may be
    changed at any time. None does while it is cut.
    """

    def __init__(self, seed: int = 1) -> None:
        self.delay = 0.0
        self.loss = 0.0
        self._cut_until = 0.0
        self._random = Random(seed)
        self._names = ["bert-serving-%d-%s" % (os.getpid(), side) for side in "ab"]
        self._made: List[str] = []
        self._ends: List[int] = []
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._carry, name="link")

    def __enter__(self) -> LossyLink:
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make(self) -> None:
        for name, address in zip(self._names, HOSTS):
            _ip("netns", "add", name)
            self._made.append(name)
            self._ends.append(_open_tun(name))
            _ip("-n", name, "addr", "add", address + "/30", "dev", "tun0")
            _ip("-n", name, "link", "set", "tun0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        os.write(self._waker, b"\0")
        if self._thread.ident is not None:
            self._thread.join()
        for fd in [*self._ends, self._wake, self._waker]:
            os.close(fd)
        for name in self._made:
            _ip("netns", "delete", name)

    def on(self, host: int, *command: str) -> List[str]:
        """The words that run a command on a host, 0 or 1."""
        return ["ip", "netns", "exec", self._names[host], *command]

    def cut(self, seconds: float = math.inf) -> None:
        """Cut it for a while, or until :meth:`mend`."""
        self._cut_until = time.monotonic() + seconds

    def mend(self) -> None:
        self._cut_until = 0.0

    @property
    def _is_cut(self) -> bool:
        return time.monotonic() < self._cut_until

    def _carry(self) -> None:
        under_way: Deque[Tuple[float, int, bytes]] = deque()
        while True:
            wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
            ready, _, _ = select.select([*self._ends, self._wake], [], [], wait)
            if self._wake in ready:
                return
            for side, fd in enumerate(self._ends):
                if fd in ready:
                    packet = os.read(fd, MOST_BYTES)
                    if not self._is_cut and self._random.random() >= self.loss:
                        at = time.monotonic() + self.delay
                        under_way.append((at, self._ends[1 - side], packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _, fd, packet = under_way.popleft()
                if not self._is_cut:
                    os.write(fd, packet)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _open_tun(name: str) -> int:
    """A TUN device, tun0, in a namespace; a namespace is a thread's own."""
    found: List[Any] = []

    def make() -> None:
        try:
            with open("/var/run/netns/" + name) as space:
                if LIBC.setns(space.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            fd = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", b"tun0", IFF_TUN | IFF_NO_PI))
            found.append(fd)
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if isinstance(found[0], OSError):
        raise found[0]
    fd: int = found[0]
    return fd
