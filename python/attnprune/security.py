"""What a client demands of a server and shows to it: TLS, certificates and a token."""
from __future__ import annotations

import ipaddress
import pathlib
from typing import Any, NoReturn, Union

import grpc

from attnprune.errors import Error, InvalidArgument

Pem = Union[str, "pathlib.Path", bytes]  # a file, or what is in it
MAX_TOKEN_BYTES = 512


def refuse(field: str, rule: str) -> NoReturn:
    """Raises InvalidArgument of a field that breaks a rule on this side."""
    raise InvalidArgument(f"{field} {rule}", violations=[(field, rule)])


def is_this_machine(target: str) -> bool:
    """No other machine hears what is sent there."""
    if target.startswith("unix:"):
        return True
    host = target.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_token(token: str | None) -> str:
    """The token without the white space around it; "" for none."""
    if token is None:
        return ""
    token = token.strip()
    valid = 0 < len(token) <= MAX_TOKEN_BYTES and all("!" <= c <= "~" for c in token)
    if not valid:
        refuse("token", f"must be 1 to {MAX_TOKEN_BYTES} printable ASCII characters without "
                        "spaces, which it is not")
    return token


def read_token(file: str) -> str:
    """What is in a token file."""
    return (_read("token", file) or b"").decode("latin-1")


def _read(field: str, pem: Pem | None) -> bytes | None:
    if pem is None or isinstance(pem, bytes):
        return pem
    try:
        return pathlib.Path(pem).read_bytes()
    except OSError as error:
        refuse(field, f"must be a file that can be read, got {pem}: {error.strerror}")


def credentials(tls: bool, ca: Pem | None, cert: Pem | None, key: Pem | None) -> Any:
    """Of a TLS channel where any of the four is given, else None."""
    if not (tls or ca or cert or key):
        return None
    if (cert is None) != (key is None):
        refuse("key" if key is None else "cert",
               "must be given: a certificate and its key go together, got none")
    for field, pem in (("ca", _read("ca", ca)), ("cert", _read("cert", cert)),
                       ("key", _read("key", key))):
        if pem is not None and b"-----BEGIN " not in pem:
            refuse(field, "must be in PEM form, which begins with -----BEGIN, got something else")
    return grpc.ssl_channel_credentials(_read("ca", ca), _read("key", key), _read("cert", cert))


def explain(error: Error, target: str, tls: bool) -> Error:
    """In other words where gRPC's own show that TLS is why; gRPC tells of a handshake by text alone."""
    said = error.message
    if not said.startswith("failed to connect to all addresses"):
        return error
    for sign, words in (
            ("certificate verify failed", f"{target} has a certificate that is not of an authority "
                                          "in `ca`, or not valid today"),
            ("is not in peer certificate", f"the certificate of {target} is for another name"),
            ("wrong version number", f"{target} speaks no TLS")):
        if sign.lower() in said.lower():
            error.message, error.for_good = words, True
            return error
    if "Socket closed" in said and not tls:
        error.message = f"{target} closed the connection: it may speak TLS only, for which `ca` or " \
                        "`tls` must be given"
    else:
        error.message = f"no server answers at {target} ({said})"
    return error
