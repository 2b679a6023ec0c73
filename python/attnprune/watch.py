"""A watch that outlives its connections: an iterator, an async iterator, and awaitable."""
from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any, AsyncIterator, Callable, Generator, Iterator

import grpc

from attnprune.backoff import Backoff
from attnprune.connection import Connection, new_request_id
from attnprune.errors import Error, Interrupted, OutOfRange, Unavailable
from attnprune.v1 import job_pb2, prune_service_pb2

GOES_ON = (job_pb2.QUEUED, job_pb2.RUNNING)
Event = prune_service_pb2.JobEvent


class Watch:
    """Every event of a job or run after `after`, in order and once each, across broken connections
    and restarts of the server. Of heartbeats it gives those that say what the job waits for.
    History that was compacted away: a warning takes its place. Ends with the job's end: `ended` is
    then the Job or Run message of the last event, or None if the end came before `after`.

    Use it once: in a `for`, in an `async for`, or `await` it to its end.
    """

    def __init__(self, connection: Connection, name: str, after: int = 0,
                 replay: bool = False) -> None:
        self.name, self.last, self.ended = name, after, None
        self.reconnects = 0
        self.away: Callable[[Error | None], None] | None = None  # told why; None: it is back
        self._is_away = False
        self._connection, self._replay = connection, replay
        self._retry = connection.retry if replay else connection.watch_retry
        self._stream: Any = None
        self._closed = False
        self._executor: concurrent.futures.ThreadPoolExecutor | None = None
        self._events = self._read()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        try:
            return next(self._events)
        except KeyboardInterrupt:
            self.close()
            raise Interrupted([self.name]) from None

    def close(self) -> None:
        """Ends the watch; the job goes on."""
        self._closed = True
        if self._stream is not None:
            self._stream.cancel()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        loop = asyncio.get_running_loop()
        try:
            event = await loop.run_in_executor(self._thread(), self._next)
        except asyncio.CancelledError:
            self.close()  # else the thread would wait for the next event
            raise
        if event is None:
            self._thread().shutdown(wait=False)
            raise StopAsyncIteration
        return event

    def _thread(self) -> concurrent.futures.ThreadPoolExecutor:
        """Its own: a watch that waits holds up no other one."""
        if self._executor is None:
            self._executor = concurrent.futures.ThreadPoolExecutor(1, "attnprune-watch")
        return self._executor

    def _next(self) -> Event | None:
        return next(self._events, None)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._drain().__await__()

    async def _drain(self) -> Any:
        async for _ in self:
            pass
        return self.ended

    def _read(self) -> Iterator[Event]:
        backoff = Backoff(self._retry)
        while not self._closed:
            try:
                yield from self._read_stream(backoff)
                if self.ended is None or self.ended.state not in GOES_ON:
                    return
                self.ended = None  # the end of an earlier attempt: it was resumed
            except OutOfRange as error:
                yield self._skip_compacted(error)
            except Unavailable as error:
                if self._closed:
                    return
                self.reconnects += 1
                self._tell(error)
                self._connection.wait(error, backoff)

    def _read_stream(self, backoff: Backoff) -> Iterator[Event]:
        request = prune_service_pb2.WatchJobRequest(name=self.name, after_sequence=self.last,
                                                    replay_only=self._replay)
        request_id = new_request_id()
        self._stream = self._connection.jobs.WatchJob(
            request, metadata=self._connection.metadata(request_id))
        try:
            for event in self._stream:
                backoff.succeeded()
                self._tell(None)
                if self._is_new(event):
                    yield event
        except grpc.RpcError as rpc:
            raise self._connection.explain(rpc, request_id) from None
        finally:
            self._stream.cancel()

    def _tell(self, error: Error | None) -> None:
        """Each change."""
        if self._is_away != (error is not None):
            self._is_away = error is not None
            if self.away is not None:
                self.away(error)

    def _is_new(self, event: Event) -> bool:
        if event.heartbeat.HasField("waiting"):
            return True
        if event.sequence <= self.last:  # another heartbeat, or seen before
            return False
        self.last = event.sequence
        kind = event.WhichOneof("event")
        self.ended = getattr(event, kind) if kind in ("terminal", "run_terminal") else None
        return True

    def _skip_compacted(self, error: OutOfRange) -> Event:
        """Where the history that is gone ends, the watch goes on."""
        oldest = int(error.metadata.get("oldest_sequence", "0"))
        if oldest <= self.last + 1:
            raise error
        event = Event(warning=f"events {self.last + 1} to {oldest - 1} are no longer kept by the server")
        self.last = oldest - 1
        return event
