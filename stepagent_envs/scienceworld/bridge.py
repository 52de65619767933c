"""Questions to a process over its standard input, and its answers over its standard output.

A question is a number of texts, an answer a flag (0: it failed, and why follows) and a number of texts. Numbers are
four bytes, most significant first; a text is its length and its UTF-8 bytes. The other side is
`java/stepagent/Host.java`.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator

from stepagent_envs.errors import InfrastructureError

__all__ = ["Bridge", "Refused"]


class Refused(Exception):
    """The other side threw; the bridge itself is sound."""


class Bridge:
    """The pipes of a process.

    Args:
        process: with pipes for standard input and output, unbuffered.

    Raises:
        InfrastructureError: from every method, when the process is gone or does not answer in time.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout.fileno()
        self._buffer = bytearray()

    def ask(self, *texts: str, timeout: float) -> list[str]:
        """Send a question and wait for the answer.

        Raises:
            Refused: with what the other side says.
        """
        parts = [struct.pack(">i", len(texts))]
        for text in texts:
            data = text.encode("utf-8")
            parts += (struct.pack(">i", len(data)), data)
        try:
            self._stdin.write(b"".join(parts))
        except OSError as error:
            raise InfrastructureError(f"the simulator's process ended ({error})") from None
        return self.answer(timeout)

    def answer(self, timeout: float) -> list[str]:
        """Wait for an answer."""
        deadline = time.monotonic() + timeout
        try:
            with self._watched(timeout):
                good, count = struct.unpack(">ii", self._take(8, deadline))
                sizes = (struct.unpack(">i", self._take(4, deadline))[0] for _ in range(count))
                texts = [self._take(size, deadline).decode("utf-8") for size in sizes]
        except OSError as error:
            if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
                raise InfrastructureError(f"the simulator did not answer within {timeout:g} s") from None
            raise InfrastructureError(f"the simulator's process ended ({error})") from None
        if not good:
            raise Refused(texts[0])
        return texts

    def _take(self, size: int, deadline: float) -> bytes:
        while len(self._buffer) < size:
            if hasattr(select, "poll"):
                poll = select.poll()
                poll.register(self._stdout, select.POLLIN)
                if not poll.poll(max(0.0, 1e3 * (deadline - time.monotonic()))):
                    raise TimeoutError
            chunk = os.read(self._stdout, 1 << 16)
            if not chunk:
                raise ConnectionError("it closed its output")
            self._buffer += chunk
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    @contextlib.contextmanager
    def _watched(self, timeout: float) -> Iterator[None]:
        """Where pipes cannot be polled (Windows), a process that does not answer is killed, which ends the reading."""
        if hasattr(select, "poll"):
            yield
            return
        watchdog = threading.Timer(timeout, self._process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()
