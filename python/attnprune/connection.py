"""The stubs of one server and what all calls share: deadlines, retries, the token."""
from __future__ import annotations

import os
import pathlib
import secrets
import time
from typing import Any, Callable

# Else gRPC looks for a server that is back as late as after 5 s.
os.environ.setdefault("GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", "100")
import grpc  # noqa: E402  (reads the environment)

from attnprune import security  # noqa: E402
from attnprune.backoff import Backoff, Retry  # noqa: E402
from attnprune.errors import REQUEST_ID_KEY, Error, Unavailable, from_rpc  # noqa: E402
from attnprune.v1 import prune_service_pb2_grpc, tensor_service_pb2_grpc  # noqa: E402

MIB = 1 << 20


class Connection:
    """Thread-safe. call_timeout and timeout_per_mib: seconds of each try; the second of a transfer."""

    def __init__(self, target: str, *, token: str | None, tls: bool, ca: security.Pem | None,
                 cert: security.Pem | None, key: security.Pem | None, call_timeout: float,
                 timeout_per_mib: float, retry: Retry, watch_retry: Retry) -> None:
        if not target:
            security.refuse("target", "must be HOST:PORT, got nothing")
        self.target = target
        self.retry, self.watch_retry = retry, watch_retry
        self.call_timeout, self.timeout_per_mib = call_timeout, timeout_per_mib
        credentials = security.credentials(tls, ca, cert, key)
        self._tls = credentials is not None
        self.files: dict[str, security.Pem | None] = {"ca": ca, "cert": cert, "key": key}  # as given
        self._token = security.check_token(token)
        if self._token and not self._tls and not security.is_this_machine(target):
            security.refuse("token", "must go with TLS (`ca` or `tls`) to a server on another "
                                     f"machine, which would be sent it in plain text, got {target}")
        self._trace = secrets.token_hex(16)
        self.channel = _channel(target, credentials, bool(self._token))
        self.jobs: Any = prune_service_pb2_grpc.PruneServiceStub(self.channel)  # type: ignore[no-untyped-call]
        self.tensors: Any = tensor_service_pb2_grpc.TensorServiceStub(self.channel)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self.channel.close()

    def flags(self, folder: pathlib.Path) -> list[str]:
        """By which the command line calls this server alike; secrets lie in `folder`."""
        flags = ["--server", self.target] + (["--tls"] if self._tls else [])
        given = {**self.files, **({"token": self._token.encode()} if self._token else {})}
        for name, pem in given.items():
            if isinstance(pem, bytes):
                (folder / name).touch(mode=0o600)
                (folder / name).write_bytes(pem)
                pem = folder / name
            if pem is not None:
                flags += [f"--{name}-file", str(pem)]
        return flags

    def metadata(self, request_id: str) -> list[tuple[str, str]]:
        """Of a call: who calls, and what the server's log has it under."""
        pairs = [(REQUEST_ID_KEY, request_id),
                 ("traceparent", f"00-{self._trace}-{secrets.token_hex(8)}-01")]
        if self._token:
            pairs.append(("authorization", f"Bearer {self._token}"))
        return pairs

    def explain(self, rpc: grpc.RpcError, request_id: str) -> Error:
        """The exception of a try. A server that shuts down answers CANCELLED: that is UNAVAILABLE."""
        error = from_rpc(rpc)
        if error.code is grpc.StatusCode.CANCELLED:
            return Unavailable("the server is shutting down")
        if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and not error.request_id:
            error.request_id = request_id
        if error.code is grpc.StatusCode.UNAVAILABLE:
            return security.explain(error, self.target, self._tls)
        return error

    def attempt(self, call: Callable[..., Any], request: Any, timeout: float | None = None,
                request_id: str = "") -> Any:
        """One try of a call that has one answer."""
        request_id = request_id or new_request_id()
        try:
            return call(request, timeout=timeout or self.call_timeout,
                        metadata=self.metadata(request_id))
        except grpc.RpcError as rpc:
            raise self.explain(rpc, request_id) from None

    def call(self, call: Callable[..., Any], request: Any,
             settle: Callable[[Error], Any] | None = None) -> Any:
        """Tries until it ends in anything but UNAVAILABLE, or the patience is used up.

        settle: asked about an error after the first try, whose effect may be there already; its
        answer, unless None, is the call's.
        """
        request_id, backoff, tries = new_request_id(), Backoff(self.retry), 0
        while True:
            tries += 1
            try:
                return self.attempt(call, request, request_id=request_id)
            except Unavailable as error:
                self.wait(error, backoff)
            except Error as error:
                settled = settle(error) if settle and tries > 1 else None
                if settled is None:
                    raise
                return settled

    def wait(self, error: Error, backoff: Backoff) -> None:
        """Waits before the next try; raises `error` if there is to be none."""
        wait = None if error.for_good else backoff.next()
        if wait is None:
            raise error
        time.sleep(wait)


def new_request_id() -> str:
    return secrets.token_hex(16)


def _channel(target: str, credentials: Any, token: bool) -> Any:
    options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 2000),
               ("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 20_000),
               ("grpc.http2.max_pings_without_data", 0), ("grpc.use_local_subchannel_pool", 1),
               ("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1)]
    if credentials is not None:
        return grpc.secure_channel(target, credentials, options=options)
    if token:  # else the environment's proxy would get it
        options.append(("grpc.enable_http_proxy", 0))
    return grpc.insecure_channel(target, options=options)
