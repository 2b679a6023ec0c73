"""Jobs by numpy alone: submitted, watched, fetched, refused; calls that are lost on their way."""
import inspect
import re
import signal
import threading

import numpy
import pytest

import attnprune
from attnprune.backoff import Backoff
from attnprune.v1 import job_pb2, prune_service_pb2, tensor_service_pb2
from conftest import MODELS
from harness import Proxy, cli, digests, wait_for

METHODS = ["magnitude", "wanda", "sparsegpt:percdamp=0.01", ("gd", {"steps": 20})]


def test_a_layer_is_pruned_and_fetched(client, layer, batches, held_out, capsys):
    job = client.submit(layer, batches, held_out=held_out, methods=METHODS, labels={"of": "test"})
    assert job.wait() is job and job.state == "SUCCEEDED"
    assert re.search(r"wanda  done  error 0\.\d+  held out 0\.\d+", capsys.readouterr().err)
    for result in job.results():
        for name, before in (("w_q", layer.q), ("w_k", layer.k)):
            mask, after = result.masks[name], result.weights[name]
            assert mask.dtype == bool and mask.shape == after.shape == before.shape
            assert after.dtype == before.dtype and not after[~mask].any()
            assert mask.sum() == pytest.approx(before.size / 2, abs=2 + 1e-3 * before.size)
    assert (job.result("magnitude").weights["w_q"][job.result("magnitude").masks["w_q"]] ==
            layer.q[job.result("magnitude").masks["w_q"]]).all()


def test_the_best_result_is_the_one_of_the_least_held_out_error(client, layer, batches, held_out):
    job = client.submit(layer, batches, held_out=held_out, methods=METHODS, progress=False)
    best = job.result()
    rows = job.rows()
    assert rows == sorted(rows, key=lambda row: row["held_out"]) and len(rows) == 4
    assert best.method == rows[0]["method"] == "sparsegpt" and best.error == rows[0]["held_out"]
    assert {"method", "held_out", "calibration", "sparsity", "steps", "seconds"} <= set(rows[0])
    with pytest.raises(attnprune.InvalidArgument, match="must be one of gd, .*, got joint"):
        job.result("joint")


def test_rows_make_a_table_of_pandas(client, layer, batches):
    pandas = pytest.importorskip("pandas")
    job = client.submit(layer, batches, methods=["wanda", "magnitude"]).wait(progress=False)
    table = pandas.DataFrame(job.rows())
    assert list(table["method"]) == ["magnitude", "wanda"] and table["calibration"].dtype == float


def test_n_of_m_and_its_rule(client, layer, batches):
    job = client.submit(layer, batches, sparsity="1:4", methods="wanda")
    kept = job.result().masks["w_q"].reshape(-1, 4).sum(axis=1)
    assert (kept == 3).all()
    with pytest.raises(attnprune.InvalidArgument, match="a fraction or N:M, got a:b"):
        client.submit(layer, batches, sparsity="a:b")


def test_every_rpc_is_a_method():
    names = {"UploadTensor": "upload", "DownloadTensor": "download", "WatchJob": "watch",
             "GetServerInfo": "server_info"}
    for service in (prune_service_pb2.DESCRIPTOR.services_by_name["PruneService"],
                    tensor_service_pb2.DESCRIPTOR.services_by_name["TensorService"]):
        for rpc in service.methods:
            name = names.get(rpc.name, re.sub("(?<!^)([A-Z])", r"_\1", rpc.name).lower())
            assert inspect.getdoc(getattr(attnprune.Client, name)) or name.startswith(
                ("get_", "list_", "cancel_", "create_run", "server_info", "find_missing")), name


def test_jobs_are_listed_page_by_page_cancelled_and_deleted(alone, layer, batches):
    jobs = [alone.submit(layer, batches, methods="magnitude", labels={"n": str(n)}).wait(False)
            for n in range(5)]
    assert [job.name for job in alone.list_jobs(page_size=2)] == [job.name for job in jobs[::-1]]
    assert [job.name for job in alone.jobs(labels={"n": "3"})] == [jobs[3].name]
    assert not list(alone.jobs(states=["RUNNING"]))
    assert alone.job(jobs[0].name.split("/")[1]).cancel().state == "SUCCEEDED"
    jobs[0].delete()
    with pytest.raises(attnprune.NotFound) as refused:
        jobs[0].refresh()
    assert refused.value.request_id and jobs[0].name.split("/")[1] in refused.value.message


def test_a_job_is_cancelled(client, layer, batches):
    job = client.submit(layer, batches, methods=("gd:steps=1000000",))
    job.cancel()
    with pytest.raises(attnprune.JobFailed, match="was cancelled"):
        job.wait(progress=False)
    assert job.state == "CANCELLED"


def test_a_job_that_fails_says_why(client, layer, batches):
    spoiled = batches[0].astype("f4")
    spoiled[3, 2, 1] = numpy.nan
    with pytest.raises(attnprune.JobFailed) as failed:
        client.submit(layer, [spoiled], methods="wanda").wait(progress=False)
    assert "jobs/" in failed.value.name and failed.value.name in str(failed.value)


def test_errors_have_the_code_and_the_field_at_fault(client, layer, batches):
    with pytest.raises(attnprune.InvalidArgument) as refused:
        client.submit(layer, batches, sparsity=1.2, methods="wanda")
    assert refused.value.field == "job.sparsity.fraction" and "got 1.2" in refused.value.message
    assert isinstance(refused.value, ValueError)
    with pytest.raises(attnprune.InvalidArgument) as refused:
        client.submit(layer, batches, methods=("gd:momentun=0.9",))
    assert refused.value.field.startswith("job.methods[0].parameters")


def test_tensors_that_are_not_there_are_named(client):
    ref = job_pb2.TensorRef(sha256="ab" * 32, dtype=job_pb2.F32, shape=[4, 4])
    job = job_pb2.Job(problem=job_pb2.Problem(fused=job_pb2.FusedProblem(weight=ref)),
                      calibration=[ref], sparsity=job_pb2.Sparsity(fraction=0.5),
                      methods=[job_pb2.Method(name="wanda")])
    with pytest.raises(attnprune.FailedPrecondition) as refused:
        client.create_job(job)
    assert refused.value.missing == ["ab" * 32]
    assert client.create_job(job, validate_only=True).estimate.memory_bytes > 0


def test_a_request_id_makes_one_job(client, layer, batches):
    first = client.submit(layer, batches, methods="wanda", request_id="mine")
    assert client.submit(layer, batches, methods="wanda", request_id="mine").name == first.name
    with pytest.raises(attnprune.AlreadyExists):
        client.submit(layer, batches, methods="magnitude", request_id="mine")


class LosesTheFirstJob(Proxy):
    """Breaks the connection instead of handing on the first answer that names a job."""
    lost = 0

    def send_down(self, source, sink, data):
        if not self.lost and b"jobs/" in data:
            self.lost += 1
            self.close(source, sink)
            raise OSError
        super().send_down(source, sink, data)


def test_a_lost_answer_makes_no_second_job(server, alone, layer, batches):
    proxy = LosesTheFirstJob(lambda: server.port)
    with attnprune.Client(proxy.address) as far:
        job = far.submit(layer, batches, methods="wanda")
    assert proxy.lost == 1
    assert [one.name for one in alone.list_jobs()] == [job.name]


class LosesAnAnswer(Proxy):
    """Breaks the connection once what it was asked has taken effect, before the answer comes."""

    def __init__(self, server, asked, effect):
        self.asked, self.effect, self.lost = asked.encode(), effect, 0
        self.armed = False
        super().__init__(lambda: server.port)

    def send_up(self, client, server, data):
        self.armed = self.armed or (not self.lost and self.asked in data)
        super().send_up(client, server, data)

    def send_down(self, source, sink, data):
        if self.armed:
            wait_for(self.effect, "the call takes effect")
            self.armed, self.lost = False, 1
            self.close(source, sink)
            raise OSError
        super().send_down(source, sink, data)


def test_what_a_lost_try_has_deleted_counts_as_deleted(server, alone, layer, batches):
    name = alone.submit(layer, batches, methods="wanda").wait(False).name
    proxy = LosesAnAnswer(server, name, lambda: not list(alone.list_jobs()))
    with attnprune.Client(proxy.address) as far:
        far.delete_job(name)
        assert proxy.lost == 1
        with pytest.raises(attnprune.NotFound):
            far.delete_job(name)


def test_what_a_lost_try_has_resumed_counts_as_resumed(server, alone, layer, batches):
    alone.submit(layer, batches, methods="gd:steps=1000000")  # the worker is at it
    done = cli("submit", "--run", "--server", server.address, "--model", MODELS / "llama", "--tokens",
               tokens(server.folder.parent), "--method", "magnitude")
    assert done.returncode == 0, done.stderr
    run = alone.run(done.stdout.strip()).cancel()
    assert run.state == "CANCELLED"
    with pytest.raises(attnprune.NotFound):
        alone.resume_run("runs/r-none")
    proxy = LosesAnAnswer(server, run.name, lambda: run.refresh().state == "QUEUED")
    with attnprune.Client(proxy.address) as far:
        assert attnprune.Run(far, far.resume_run(run.name)).state == "QUEUED"
    assert proxy.lost == 1
    with pytest.raises(attnprune.FailedPrecondition):
        run.resume()


def tokens(folder):
    numpy.save(folder / "tokens.npy", numpy.arange(48).reshape(2, 24))
    return folder / "tokens.npy"


def test_a_call_waits_for_a_server_that_is_started_again(server, alone):
    server.kill()
    starter = threading.Thread(target=server.start)
    starter.start()
    assert alone.server_info().version
    starter.join()


def test_patience_ends(server):
    with attnprune.Client(server.address, retry=attnprune.Retry(patience=0.2)) as client:
        client.check_health()
        server.kill()
        with pytest.raises(attnprune.Unavailable, match=f"no server answers at {server.address}"):
            client.server_info()


def test_a_server_that_hangs_ends_the_call_at_its_deadline(server, alone):
    alone.check_health()
    alone.connection.call_timeout = 0.2
    server.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(attnprune.DeadlineExceeded) as refused:
            alone.server_info()
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert refused.value.request_id


def test_waits_grow_to_the_longest_and_end_with_the_patience():
    retry = attnprune.Retry(first=1, longest=4, factor=2, jitter=0, patience=12)
    backoff = Backoff(retry)
    assert [backoff.next() for _ in range(6)] == [1, 2, 4, 4, 1, None]
    backoff.succeeded()
    assert backoff.next() == 1
    spread = Backoff(attnprune.Retry(jitter=0.25, patience=1e9, first=1, longest=1), seed=1)
    waits = [spread.next() for _ in range(1000)]
    assert 0.75 <= min(waits) < 0.77 and 1.23 < max(waits) <= 1.25


def test_masks_of_two_clients_are_the_same_bits(client, layer, batches):
    jobs = [client.submit(layer, batches, methods=("gd:steps=5",)).wait(False) for _ in range(2)]
    assert digests(jobs[0].message) == digests(jobs[1].message)


def test_the_server_describes_its_methods(client):
    methods = {row["method"]: row for row in client.methods()}
    assert methods["gd"]["parameters"]["steps"] == 100 and methods["gd"]["summary"]
