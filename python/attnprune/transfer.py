"""Uploads and downloads that go on where a broken connection left them."""
from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, Callable, Iterable, Iterator, Optional

import grpc

from attnprune.backoff import Backoff
from attnprune.connection import MIB, Connection, new_request_id
from attnprune.errors import Aborted, DataLoss, OutOfRange, Unavailable
from attnprune.tensors import Tensor
from attnprune.v1 import prune_service_pb2, tensor_service_pb2

MAX_DIGESTS = 10_000  # of one FindMissingTensors
CHUNK_BYTES = 2 * MIB  # and no more than the server takes; each costs grpcio two switches of threads
UPLOAD = "/attnprune.v1.TensorService/UploadTensor"


@dataclasses.dataclass
class Progress:
    """Bytes. sent: handed to the connection, repeats included; total: of what the server lacked."""

    sent: int = 0
    total: int = 0


Observer = Optional[Callable[[Progress], None]]


def find_missing(connection: Connection, digests: Iterable[str]) -> list[str]:
    """Those that the server lacks."""
    asked, missing = list(dict.fromkeys(digests)), []
    for start in range(0, len(asked), MAX_DIGESTS):
        request = tensor_service_pb2.FindMissingTensorsRequest(
            sha256=asked[start:start + MAX_DIGESTS])
        missing += connection.call(connection.tensors.FindMissingTensors, request).missing
    return missing


def upload(connection: Connection, tensors: Iterable[Tensor], observer: Observer = None,
           chunk_bytes: int = CHUNK_BYTES) -> Progress:
    """Sends what the server lacks, one after the other."""
    by_digest = {tensor.ref.sha256: tensor for tensor in tensors}
    progress = Progress()
    missing = [by_digest[digest] for digest in find_missing(connection, by_digest)]
    if not missing:
        return progress
    limits = connection.call(connection.jobs.GetServerInfo,
                             prune_service_pb2.GetServerInfoRequest()).limits
    chunk_bytes = min(chunk_bytes, limits.max_chunk_bytes or chunk_bytes)
    progress.total = sum(len(tensor.data) for tensor in missing)
    for tensor in missing:
        _Upload(connection, tensor, progress, observer, chunk_bytes).run()
    return progress


class _Upload:
    """Of one tensor. Its digest names the upload too, so that another process can go on with it."""

    def __init__(self, connection: Connection, tensor: Tensor, progress: Progress,
                 observer: Observer, chunk_bytes: int) -> None:
        self._connection, self._tensor, self._chunk_bytes = connection, tensor, chunk_bytes
        self._progress, self._observer = progress, observer
        self._stream = connection.channel.stream_unary(
            UPLOAD, request_serializer=_serialize,
            response_deserializer=tensor_service_pb2.UploadTensorResponse.FromString)

    def run(self) -> None:
        """ABORTED: another stream, maybe our own broken one, still writes this upload.
        OUT_OF_RANGE: it wrote after we asked how far it was. Both are looked at again."""
        backoff, furthest = Backoff(self._connection.retry), -1
        while True:
            try:
                committed = query(self._connection, self._tensor.ref.sha256)
                if committed > furthest:
                    backoff.succeeded()  # what was sent has got through
                furthest = max(furthest, committed)
                return self._send(committed)
            except (Unavailable, Aborted, OutOfRange) as error:
                self._connection.wait(error, backoff)

    def _send(self, offset: int) -> None:
        left = len(self._tensor.data) - offset
        timeout = self._connection.call_timeout + self._connection.timeout_per_mib * left / MIB
        self._connection.attempt(self._stream, self._messages(offset), timeout)

    def _messages(self, offset: int) -> Iterator[Any]:
        ref, data = self._tensor.ref, self._tensor.data
        yield tensor_service_pb2.UploadTensorRequest(header=tensor_service_pb2.UploadHeader(
            upload_id=ref.sha256, sha256=ref.sha256, size_bytes=len(data), offset=offset,
            dtype=ref.dtype))
        for start in range(offset, len(data), self._chunk_bytes):
            chunk = data[start:start + self._chunk_bytes]
            yield chunk
            self._progress.sent += len(chunk)
            if self._observer:
                self._observer(self._progress)


def _serialize(message: Any) -> bytes:
    """A piece of data is put into its message by hand, copied once: protobuf would copy it thrice."""
    if not isinstance(message, memoryview):
        serialized: bytes = message.SerializeToString()
        return serialized
    size, length = bytearray(), len(message)
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    size.append(length)
    return b"".join((b"\x12", size, message))  # UploadTensorRequest.data is field 2, of bytes


def query(connection: Connection, upload_id: str) -> int:
    """Bytes that are on disk; one try."""
    answer = connection.attempt(connection.tensors.QueryUpload,
                                tensor_service_pb2.QueryUploadRequest(upload_id=upload_id))
    committed: int = answer.committed_bytes
    return committed


def download(connection: Connection, sha256: str) -> bytearray:
    """The tensor's bytes. DataLoss: they do not have that digest."""
    backoff, data, digest = Backoff(connection.retry), bytearray(), hashlib.sha256()
    while True:
        before = len(data)
        try:
            for part in _receive_rest(connection, sha256, before):
                data += part
                digest.update(part)  # while more is on its way
            break
        except Unavailable as error:
            if len(data) > before:
                backoff.succeeded()
            connection.wait(error, backoff)
    if digest.hexdigest() != sha256:
        raise DataLoss(f"the server's tensor {sha256} arrived as {len(data)} bytes of another digest")
    return data


def _receive_rest(connection: Connection, sha256: str, offset: int) -> Iterator[bytes]:
    """The size is not known before the end, so there is no deadline: keepalive finds a dead peer."""
    request = tensor_service_pb2.DownloadTensorRequest(sha256=sha256, offset=offset)
    request_id = new_request_id()
    stream = connection.tensors.DownloadTensor(request, metadata=connection.metadata(request_id))
    try:
        for part in stream:
            yield part.data
    except grpc.RpcError as rpc:
        raise connection.explain(rpc, request_id) from None
    finally:
        stream.cancel()
