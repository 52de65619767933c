"""A small client of the py4j gateway protocol.

The simulator's Java side speaks py4j. Its own Python client would do, but it retries, logs and collects garbage over
the network when a JVM dies, has no time limit for a call, and waits out TCP's delayed acknowledgement (40 ms on Linux)
on every answer longer than 8 KB. Here a call is one line-based exchange on one socket, several calls can travel
together, and every failure is an `InfrastructureError`.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from stepagent_envs.errors import InfrastructureError

__all__ = ["Argument", "Bridge", "Call", "JavaError", "Long", "Ref", "Value"]

_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


@dataclass(frozen=True, slots=True)
class Ref:
    """An object that lives in the JVM."""

    name: str


class Long(int):
    """A number to be passed as Java's `long`."""


Argument: TypeAlias = "str | bool | int | float | Long | Ref | None"
Value: TypeAlias = "str | bool | int | float | Ref | None"


class JavaError(Exception):
    """A Java call threw an exception; the bridge itself is sound."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call to be sent: `target` is an object, or the name of a class for a static method."""

    target: Ref | str
    method: str
    arguments: tuple[Argument, ...] = ()

    def encode(self) -> str:
        """The call in py4j's notation."""
        target = self.target.name if isinstance(self.target, Ref) else f"z:{self.target}"
        return f"c\n{target}\n{self.method}\n{_encode(self.arguments)}e\n"


def _encode(arguments: Sequence[Argument]) -> str:
    parts = []
    for argument in arguments:
        if isinstance(argument, Ref):
            parts.append(f"r{argument.name}\n")
        elif argument is None:
            parts.append("n\n")
        elif isinstance(argument, Long):
            parts.append(f"L{int(argument)}\n")
        elif isinstance(argument, bool):
            parts.append(f"b{str(argument).lower()}\n")
        elif isinstance(argument, float):
            parts.append(f"d{argument}\n")
        elif isinstance(argument, int):
            parts.append(f"i{argument}\n")
        else:
            text = argument.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n")
            parts.append(f"s{text}\n")
    return "".join(parts)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    parts = text.split("\\\\")
    return "\\".join(part.replace("\\n", "\n").replace("\\r", "\r") for part in parts)


def _decode(line: str) -> Value:
    if not line.startswith("!y"):
        raise JavaError(_unescape(line[3:]).partition("\n")[0] or "the call failed")
    kind, value = line[2:3], line[3:]
    if kind == "s":
        return _unescape(value)
    if kind in ("i", "L"):
        return int(value)
    if kind in ("d", "D"):
        return float(value)
    if kind == "b":
        return value.lower() == "true"
    if kind in ("v", "n"):
        return None
    return Ref(value)


class Bridge:
    """A connection to a py4j gateway.

    Args:
        port: the gateway's port on the loopback interface.
        token: what it asks for before it takes calls.
        timeout: seconds until a call counts as hung.

    Raises:
        InfrastructureError: no connection, or the token is refused.
    """

    def __init__(self, port: int, token: str, timeout: float = 60.0) -> None:
        self.timeout = timeout
        self._buffer = bytearray()
        try:
            self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise InfrastructureError(f"the simulator's gateway does not answer ({error})") from None
        try:
            self._exchange(f"A\n{token}\n", 1, timeout)
        except (InfrastructureError, JavaError):
            self.close()
            raise

    def call(self, *calls: Call, timeout: float | None = None) -> list[Value]:
        """Make calls in one round trip.

        Returns:
            Their values, in order.

        Raises:
            JavaError: one of them threw.
            InfrastructureError: the JVM is gone or did not answer within `timeout` seconds (default: the bridge's).
        """
        return self._exchange("".join(call.encode() for call in calls), len(calls), timeout or self.timeout)

    def new(self, class_name: str, *arguments: Argument) -> Ref:
        """Construct a Java object."""
        value = self._exchange(f"i\n{class_name}\n{_encode(arguments)}e\n", 1, self.timeout)[0]
        assert isinstance(value, Ref)
        return value

    def free(self, *refs: Ref) -> None:
        """Let the JVM forget objects."""
        self._exchange("".join(f"m\nd\n{ref.name}\ne\n" for ref in refs), len(refs), self.timeout)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _exchange(self, request: str, answers: int, timeout: float) -> list[Value]:
        try:
            self._socket.settimeout(timeout)
            self._socket.sendall(request.encode("utf-8"))
            lines = [self._line() for _ in range(answers)]
        except TimeoutError:
            raise InfrastructureError(f"the simulator did not answer within {timeout:g} s") from None
        except OSError as error:
            raise InfrastructureError(f"the connection to the simulator broke ({error})") from None
        return [_decode(line) for line in lines]

    def _line(self) -> str:
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if _QUICKACK is not None:
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            chunk = self._socket.recv(65536)
            if not chunk:
                raise ConnectionError("the simulator process ended")
            self._buffer += chunk
        line = self._buffer[:end].decode("utf-8")
        del self._buffer[: end + 1]
        return line
