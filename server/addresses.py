"""Network addresses: binding and connecting sockets to them, and telling which are this machine."""

from __future__ import annotations

import ipaddress

import zmq

__all__ = ["bind_tcp", "connect_tcp", "is_loopback", "peer_of"]


def bind_tcp(socket: zmq.Socket, host: str, port: int) -> None:
    """Bind to a host name, an IPv4 or an IPv6 address."""
    socket.bind(_endpoint(socket, host, port))


def connect_tcp(socket: zmq.Socket, host: str, port: int) -> None:
    """Connect to a host name, an IPv4 or an IPv6 address."""
    socket.connect(_endpoint(socket, host, port))


def _endpoint(socket: zmq.Socket, host: str, port: int) -> str:
    if ":" in host:
        socket.setsockopt(zmq.IPV6, 1)
        host = "[%s]" % host.strip("[]")
    return "tcp://%s:%d" % (host, port)


def is_loopback(peer: str) -> bool:
    """Whether the address of a connection's other end is this machine's own."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])  # without an IPv6 zone
    except ValueError:
        return False  # ZeroMQ doesn't know, as for sockets that are no TCP
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def peer_of(frame: zmq.Frame) -> str:
    """The address that a message came from."""
    try:
        return str(frame.get("Peer-Address"))
    except zmq.ZMQError:
        return "somewhere"  # peers of ZeroMQ's oldest protocol tell nothing of themselves
