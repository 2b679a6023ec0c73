"""Exceptions by canonical code, with what the server's google.rpc details say."""
from __future__ import annotations

from typing import Any

import grpc

from attnprune.v1 import errors_pb2

DETAILS_KEY = "grpc-status-details-bin"
REQUEST_ID_KEY = "x-request-id"


class Error(Exception):
    """What a server, or the way to it, has refused.

    message: names the field, the rule and the value. field: the field at fault, "" if the server
    named none. violations: all of (field, description). metadata: of ErrorInfo. missing: digests of
    tensors that have to be uploaded. retry_seconds: when to come back. request_id: of the call in
    the server's log.
    """

    code = grpc.StatusCode.UNKNOWN

    def __init__(self, message: str, *, request_id: str = "",
                 violations: list[tuple[str, str]] | None = None, reason: str = "",
                 metadata: dict[str, str] | None = None, missing: list[str] | None = None,
                 retry_seconds: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id
        self.violations = violations or []
        self.reason = reason
        self.metadata = metadata or {}
        self.missing = missing or []
        self.retry_seconds = retry_seconds
        self.for_good = False  # trying again does not mend it

    @property
    def field(self) -> str:
        return self.violations[0][0] if self.violations else ""

    def __str__(self) -> str:
        notes = [self.code.name]
        if self.field and self.field not in self.message:
            notes.append(f"field {self.field}")
        if self.retry_seconds is not None:
            notes.append(f"try again in {self.retry_seconds:g} s")
        if self.request_id:
            notes.append(f"request {self.request_id}")
        return f"{self.message} ({'; '.join(notes)})"


class Cancelled(Error):
    """CANCELLED."""
    code = grpc.StatusCode.CANCELLED


class InvalidArgument(Error, ValueError):
    """INVALID_ARGUMENT: `field` breaks a rule."""
    code = grpc.StatusCode.INVALID_ARGUMENT


class DeadlineExceeded(Error, TimeoutError):
    """DEADLINE_EXCEEDED: the call may have taken effect."""
    code = grpc.StatusCode.DEADLINE_EXCEEDED


class NotFound(Error, LookupError):
    """NOT_FOUND: no such job, run or tensor."""
    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(Error):
    """ALREADY_EXISTS: the request_id was used for another request."""
    code = grpc.StatusCode.ALREADY_EXISTS


class PermissionDenied(Error, PermissionError):
    """PERMISSION_DENIED: the token's role may not."""
    code = grpc.StatusCode.PERMISSION_DENIED


class ResourceExhausted(Error):
    """RESOURCE_EXHAUSTED: a queue, a disk or a limit is full."""
    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class FailedPrecondition(Error):
    """FAILED_PRECONDITION: tensors are missing, or the state forbids it."""
    code = grpc.StatusCode.FAILED_PRECONDITION


class Aborted(Error):
    """ABORTED: another stream writes this upload."""
    code = grpc.StatusCode.ABORTED


class OutOfRange(Error):
    """OUT_OF_RANGE: history that was compacted, or an offset past the end."""
    code = grpc.StatusCode.OUT_OF_RANGE


class Unimplemented(Error):
    """UNIMPLEMENTED."""
    code = grpc.StatusCode.UNIMPLEMENTED


class Internal(Error):
    """INTERNAL: the server's own fault."""
    code = grpc.StatusCode.INTERNAL


class Unavailable(Error, ConnectionError):
    """UNAVAILABLE: the server is not there, and all tries are used up."""
    code = grpc.StatusCode.UNAVAILABLE


class DataLoss(Error):
    """DATA_LOSS: bytes that do not have their digest."""
    code = grpc.StatusCode.DATA_LOSS


class Unauthenticated(Error, PermissionError):
    """UNAUTHENTICATED: no token, or one that is not valid."""
    code = grpc.StatusCode.UNAUTHENTICATED


class JobFailed(Error):
    """A job or a run that ended without success. `name` is its name, `code` the failure's."""

    def __init__(self, name: str, message: str, code: grpc.StatusCode) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.code = code


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while waiting: the jobs go on, unless their server stops. `names` are theirs."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        super().__init__(f"{', '.join(names)} {'goes' if len(names) == 1 else 'go'} on; "
                         "Client.job(NAME) or Client.run(NAME) finds what is named so again")

    def server_stops(self, keeps: bool) -> None:
        """Says so. keeps: its folder stays."""
        listed = ", ".join(self.names)
        goes = "goes" if len(self.names) == 1 else "go"
        self.args = (f"{listed} {goes} on when local() starts on the same data_dir again" if keeps
                     else f"{listed} {goes} with the server of local(); its data_dir keeps jobs",)


def _classes() -> dict[grpc.StatusCode, type[Error]]:
    found: list[type[Error]] = list(Error.__subclasses__())
    return {kind.code: kind for kind in found if kind.code is not grpc.StatusCode.UNKNOWN}


def code_of(number: int) -> grpc.StatusCode:
    """Of google.rpc.Code; UNKNOWN where it is none."""
    for code in grpc.StatusCode:
        if code.value[0] == number:
            return code
    return grpc.StatusCode.UNKNOWN


def error_of(code: grpc.StatusCode, message: str, **details: Any) -> Error:
    """An exception of the code's class."""
    error = _classes().get(code, Error)(message, **details)
    error.code = code
    return error


def from_rpc(rpc: grpc.RpcError) -> Error:
    """The exception of a call that failed; details that cannot be read are left out."""
    trailing = dict(rpc.trailing_metadata() or ())
    details = _read_details(trailing.get(DETAILS_KEY, b""))
    return error_of(rpc.code(), rpc.details() or "", request_id=trailing.get(REQUEST_ID_KEY, ""),
                    **details)


def _read_details(trailer: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        for detail in errors_pb2.RpcStatus.FromString(trailer).details:
            _read_detail(detail.type_url.rsplit(".", 1)[-1], detail.value, found)
    except ValueError:  # google.protobuf.message.DecodeError
        pass
    return found


def _read_detail(kind: str, value: bytes, found: dict[str, Any]) -> None:
    if kind == "BadRequest":
        found["violations"] = [(one.field, one.description) for one in
                               errors_pb2.BadRequest.FromString(value).field_violations]
    elif kind == "ErrorInfo":
        info = errors_pb2.ErrorInfo.FromString(value)
        found["reason"], found["metadata"] = info.reason, dict(info.metadata)
    elif kind == "RetryInfo":
        delay = errors_pb2.RetryInfo.FromString(value).retry_delay
        found["retry_seconds"] = delay.seconds + delay.nanos / 1e9
    elif kind == "PreconditionFailure":
        failure = errors_pb2.PreconditionFailure.FromString(value)
        found["missing"] = [one.subject for one in failure.violations
                            if one.type == "TENSOR_MISSING"]
