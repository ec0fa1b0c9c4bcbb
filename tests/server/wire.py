"""HTTP byte by byte, for what a well-behaved client would not send."""

import contextlib
import select
import socket
import time


class Wire:
    def __init__(self, port, timeout=15):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.said = b""

    def send(self, data):
        """False when the other end has closed."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def read(self, until_closed=True, seconds=15):
        """What comes, until the end, a silence of that long, or (not until_closed) a whole head."""
        data, deadline = b"", time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                got = self.socket.recv(65536)
            except OSError:
                break
            if not got:
                break
            data += got
            if not until_closed and b"\r\n\r\n" in data:
                break
        return data

    def answered(self):
        """Whether something can be read."""
        return bool(select.select([self.socket], [], [], 0)[0])

    def status(self, seconds=15):
        """The status of the reply; 0 for none."""
        head = self.read(until_closed=False, seconds=seconds)
        return int(head.split()[1]) if head.startswith(b"HTTP/1.") else 0

    def closed(self, seconds):
        """Whether the other end closes within that time; what it still says is in `said`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                got = self.socket.recv(65536)
                if not got:
                    return True
                self.said += got
            except TimeoutError:
                return False
            except OSError:
                return True
        return False

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def ask(port, data, seconds=15):
    """The status that bytes on a connection of their own get."""
    with Wire(port) as wire:
        wire.send(data)
        return wire.status(seconds)


def part(name, filename, data):
    head = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        head += f'; filename="{filename}"'
    return head.encode() + b"\r\n\r\n" + data


def multipart(*parts, boundary="frontier"):
    """A body, and the header that goes with it."""
    body = b"".join(b"--" + boundary.encode() + b"\r\n" + one + b"\r\n" for one in parts)
    return (body + f"--{boundary}--\r\n".encode(),
            {"Content-Type": f"multipart/form-data; boundary={boundary}"})
