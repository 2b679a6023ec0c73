"""A client in another language: stubs generated from the protos, nothing of the project's C++."""
import json
import subprocess

import grpc
import numpy
import pytest

import safetensors
from harness import LIMIT, MODEL, ROOT, layer_job, submit
from attnprune.v1 import errors_pb2 as errors_api
from attnprune.v1 import job_pb2 as job_api
from attnprune.v1 import prune_service_pb2 as prune_api

METHODS = (("magnitude", {}), ("wanda", {}), ("sparsegpt", {}), ("gd", {"steps": 40}))


def test_uploads_submits_watches_and_fetches(client):
    job, tensors = layer_job(methods=METHODS)
    with pytest.raises(grpc.RpcError) as refused:
        client.create(job)
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION

    client.upload_missing(tensors)
    created = client.create(job, "from-python")
    events = list(client.watch(created.name))

    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "state_change" and kinds[-1] == "terminal"
    assert kinds.count("method_result") == len(METHODS)
    # Steps that pile up are left out for who follows; the log has them all.
    log = list(client.watch(created.name))
    assert sum(event.HasField("progress") for event in log) == 40
    sequences = [event.sequence for event in events]
    assert sequences == sorted(set(sequences))

    done = events[-1].terminal
    assert done.state == job_api.SUCCEEDED, done.failure
    original = safetensors.read(MODEL / "model.safetensors")
    for result in done.results:
        for matrix in result.matrices:
            check_matrix(client, matrix, safetensors.array(original[matrix.weights.name]))


def check_matrix(client, matrix, before):
    """The weights are zero exactly where the mask says so, in the input's name, shape and dtype."""
    bits = numpy.frombuffer(client.download(matrix.mask.sha256), numpy.uint8)
    kept = numpy.unpackbits(bits, bitorder="little")[:before.size].reshape(before.shape)
    after = numpy.frombuffer(client.download(matrix.weights.sha256), "<f2").reshape(before.shape)
    assert list(matrix.weights.shape) == list(before.shape)
    assert matrix.weights.dtype == job_api.F16
    assert matrix.pruned == before.size - kept.sum()
    assert not after[kept == 0].any()


def test_the_held_out_error_is_what_numpy_computes_from_the_fetched_weights(client):
    job = client.finish(submit(client, methods=(("wanda", {}),)).name)
    (result,) = job.results
    original = safetensors.read(MODEL / "model.safetensors")
    held_out = safetensors.read(MODEL / "held_out.safetensors")
    x = safetensors.array(held_out["model.layers.1.self_attn.input"]).astype(numpy.float64)
    dense = [safetensors.array(original[m.weights.name]).astype(numpy.float64)
             for m in result.matrices]
    pruned = [numpy.frombuffer(client.download(m.weights.sha256), "<f2")
              .reshape(m.weights.shape).astype(numpy.float64) for m in result.matrices]
    above = below = 0.0
    for batch in x:
        for f, g in zip(attention(batch, *dense), attention(batch, *pruned)):
            above += ((g - f) ** 2).sum()
            below += (f ** 2).sum()
    assert result.relative_error.held_out == pytest.approx(above / below, rel=1e-4)


def attention(x, w_q, w_k, heads=8, kv_heads=4, theta=10000.0):
    """The causal attention matrices of one batch, one a head (math.md, problem 2)."""
    n, size = len(x), w_q.shape[0] // heads
    angles = numpy.outer(numpy.arange(n), theta ** (-2 * numpy.arange(size // 2) / size))
    cos, sin = numpy.cos(angles), numpy.sin(angles)

    def rotate(y):
        a, b = y[:, :size // 2], y[:, size // 2:]
        return numpy.hstack([a * cos - b * sin, b * cos + a * sin])
    for h in range(heads):
        g = h // (heads // kv_heads)
        q = rotate(x @ w_q[h * size:(h + 1) * size].T)
        k = rotate(x @ w_k[g * size:(g + 1) * size].T)
        s = q @ k.T / numpy.sqrt(size)
        s[numpy.triu_indices(n, 1)] = -numpy.inf
        e = numpy.exp(s - s.max(axis=1, keepdims=True))
        yield e / e.sum(axis=1, keepdims=True)


def details(error):
    """The google.rpc details of an error, as any client decodes them, by message name."""
    trailer = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = errors_api.RpcStatus.FromString(trailer)
    return {any_message.type_url.rsplit(".", 1)[1]: any_message.value
            for any_message in status.details}


def test_errors_carry_the_field_at_fault_in_the_standard_details(client):
    job, tensors = layer_job(sparsity=1.2)
    client.upload_missing(tensors)
    with pytest.raises(grpc.RpcError) as refused:
        client.create(job)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "[0, 1), got 1.2" in refused.value.details()
    bad = errors_api.BadRequest.FromString(details(refused.value)["BadRequest"])
    assert bad.field_violations[0].field == "job.sparsity.fraction"


def test_a_parameter_that_no_method_has_is_refused_with_its_path(client):
    job, tensors = layer_job(methods=(("gd", {"momentun": 0.9}),))
    client.upload_missing(tensors)
    with pytest.raises(grpc.RpcError) as refused:
        client.create(job)
    bad = errors_api.BadRequest.FromString(details(refused.value)["BadRequest"])
    assert bad.field_violations[0].field.startswith("job.methods[0].parameters")


def test_the_server_describes_every_method_with_its_parameters(client):
    info = client.jobs.GetServerInfo(prune_api.GetServerInfoRequest())
    methods = {method.name: method for method in info.methods}
    assert {"gd", "magnitude", "sparsegpt", "wanda"} <= set(methods)
    for name, method in methods.items():
        assert method.summary and not method.draws_random_numbers, name
        for parameter in method.parameters:
            assert parameter.help and parameter.min <= parameter.max, (name, parameter.name)


def test_a_tool_that_knows_nothing_but_reflection_calls_the_api(server, client):
    name = client.finish(submit(client, methods=(("wanda", {}),)).name).name

    def call(*arguments):
        return subprocess.run(["/usr/bin/python3", ROOT / "examples/grpc_call.py", server.address,
                               *arguments], text=True, capture_output=True, timeout=LIMIT, check=False)
    assert "attnprune.v1.PruneService" in call().stdout.split()
    assert "WatchJob(WatchJobRequest) -> JobEvent" in call("attnprune.v1.PruneService").stdout
    listed = json.loads(call("attnprune.v1.PruneService/ListJobs", '{"pageSize": 5}').stdout)
    assert [job["name"] for job in listed["jobs"]] == [name]
    watched = call("attnprune.v1.PruneService/WatchJob", json.dumps({"name": name}))
    assert '"terminal"' in watched.stdout
    refused = call("attnprune.v1.PruneService/GetJob", '{"name": "jobs/nothere"}')
    assert refused.returncode == 1 and "NOT_FOUND" in refused.stderr
