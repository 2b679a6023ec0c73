"""Many watchers, and one who reads nothing."""
import threading

from harness import LIMIT, Client, Server, submit
from attnprune.v1 import job_pb2 as job_api

WATCHERS = 200


def test_every_one_of_200_watchers_sees_the_terminal_event(server, client):
    name = submit(client, methods=(("gd", {"steps": 150}), ("wanda", {}))).name
    ends, failures = [], []

    def follow():
        try:
            with Client(server.address) as own:
                events = list(own.watch(name))
                ends.append([event.sequence for event in events])
                assert events[-1].HasField("terminal")
                assert sum(event.HasField("method_result") for event in events) == 2
        except Exception as error:  # pylint: disable=broad-except
            failures.append(error)
    threads = [threading.Thread(target=follow) for _ in range(WATCHERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert not failures, failures[0]
    assert len(ends) == WATCHERS
    assert all(sequences == sorted(set(sequences)) for sequences in ends)
    assert len({sequences[-1] for sequences in ends}) == 1


def test_watchers_who_read_nothing_cost_no_memory_and_get_every_state_and_result(tmp_path):
    methods = [("gd", {"steps": 1500}), ("magnitude", {}), ("wanda", {})]
    with Server(tmp_path / "data") as server, Client(server.address) as client:
        name = submit(client, methods=methods).name
        client.wait_for_step(name)
        # Flow control alone holds these back: their streams are open and nobody reads.
        small = {"grpc.http2.lookahead_bytes": 1, "grpc.http2.bdp_probe": 0}
        lazy = [Client(server.address, **small) for _ in range(20)]
        streams = [one.watch(name) for one in lazy]
        for stream in streams:
            next(stream)
        before = server.memory_bytes()
        client.wait_for_step(name, 1400)
        grown = server.memory_bytes() - before
        assert grown < 32 << 20, f"{grown} bytes more after 900 steps with 20 idle readers"
        assert client.finish(name).state == job_api.SUCCEEDED
        for stream in streams:
            kinds = [event.WhichOneof("event") for event in stream]
            assert kinds.count("method_result") == len(methods)
            assert kinds[-1] == "terminal"
        for one in lazy:
            one.channel.close()


def test_a_watcher_who_leaves_does_not_touch_the_job(client):
    name = submit(client, methods=(("gd", {"steps": 60}),)).name
    for _ in range(10):
        client.wait_for_step(name)  # and leaves in mid-stream
    assert client.finish(name).state == job_api.SUCCEEDED


def test_a_cancelled_job_ends_within_one_step(client):
    name = submit(client, methods=(("gd", {"steps": 1000000}),)).name
    client.wait_for_step(name, 5)
    seen = client.cancel(name)
    assert seen.cancel_requested
    events = list(client.watch(name))
    assert events[-1].terminal.state == job_api.CANCELLED
    (kept,) = events[-1].terminal.results
    assert kept.termination_reason == "stopped" and 5 <= kept.steps < 1000000
