"""HTTP/2 by hand: what no client library would send."""
import contextlib
import socket

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_HEADERS = 4


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def headers_of(path, token=None):
    """HPACK, without its tables: what a call of gRPC begins with."""
    def text(value):
        assert len(value) < 127
        return bytes([len(value)]) + value
    head = (b"\x83\x86" + b"\x04" + text(path.encode()) + b"\x01" + text(b"localhost") +
            b"\x0f\x10" + text(b"application/grpc") + b"\x00" + text(b"te") + text(b"trailers"))
    return head + (b"\x0f\x08" + text(f"Bearer {token}".encode()) if token else b"")


def message(data):
    """As gRPC frames it."""
    return b"\x00" + len(data).to_bytes(4, "big") + data


def connection(port, *frames):
    """That has sent these, as far as the server takes them."""
    one = socket.create_connection(("127.0.0.1", port))
    with contextlib.suppress(OSError):
        one.sendall(PREFACE + frame(SETTINGS, 0, 0) + b"".join(frames))
    return one


def calls(count, path, token=None, messages=()):
    """Frames of so many calls that do not end, with the first so many messages each its own."""
    headers = headers_of(path, token)
    for i in range(count):
        yield frame(HEADERS, END_HEADERS, 2 * i + 1, headers)
        if i < len(messages):
            yield frame(DATA, 0, 2 * i + 1, message(messages[i]))
