"""Tensors of numpy and files: there and back, through kills and from one process to the next."""
import numpy
import pytest

import attnprune
from attnprune import safetensors, tensors, transfer
from attnprune.v1 import job_pb2
from harness import CountingProxy, MODEL, Proxy

MIB = 1 << 20


@pytest.mark.parametrize("kind", ["<f8", "<f4", "<f2", "<i4", ">f4", ">f8"])
def test_numpy_goes_there_and_back(shared, kind):
    before = numpy.arange(60).reshape(3, 4, 5).astype(kind)
    (ref,) = shared.upload(before)
    after = shared.download(ref)
    assert (after == before).all() and after.dtype == before.dtype.newbyteorder("<")


def test_a_slice_is_sent_as_it_looks(shared):
    whole = numpy.arange(400, dtype="f4").reshape(20, 20)
    refs = shared.upload({"part": whole[::2, 3:7], "turned": whole.T})
    assert (shared.download(refs[0]) == whole[::2, 3:7]).all() and refs[0].name == "part"
    assert (shared.download(refs[1]) == whole.T).all()


def test_a_type_that_the_server_does_not_know_is_refused(shared):
    with pytest.raises(attnprune.InvalidArgument, match="ids must be of float64, .*, got int64"):
        shared.upload({"ids": numpy.arange(4)})


def test_a_mask_is_unpacked():
    ref = job_pb2.TensorRef(dtype=job_pb2.BITMASK, shape=[2, 5])
    assert tensors.array(ref, bytes([0b01100001, 0b10])).tolist() == [
        [True, False, False, False, False], [True, True, False, False, True]]


def test_bfloat16_is_read_as_the_same_float32():
    ref = job_pb2.TensorRef(dtype=job_pb2.BF16, shape=[3])
    data = numpy.array([0x3F80, 0xC000, 0x3DCD], "<u2").tobytes()
    assert tensors.array(ref, data).tolist() == [1.0, -2.0, 0.10009765625]


def test_a_file_is_sent_whole(shared):
    refs = shared.upload(MODEL / "model.safetensors")
    file = safetensors.File(MODEL / "model.safetensors")
    assert [ref.name for ref in refs] == file.names
    assert shared.download_bytes(refs[5].sha256) == file.tensor(file.names[5]).data
    assert not shared.find_missing_tensors(ref.sha256 for ref in refs)
    with pytest.raises(attnprune.InvalidArgument, match=r"must be a tensor of .*model.*; got no"):
        file.tensor("no")


def test_an_upload_goes_on_through_kills(server):
    data = numpy.random.default_rng(0).integers(0, 2**31, 6 * MIB, dtype="i4")
    proxy = CountingProxy(server, [5 * MIB, 14 * MIB])
    with attnprune.Client(proxy.address) as client:
        (ref,) = client.upload(data)
        assert (client.download(ref) == data).all()
    assert not proxy.kill_at and server.starts == 3
    # A kill loses what was not yet on disk, never what was.
    assert 24 * MIB <= proxy.sent_bytes < 48 * MIB


class Breaks(Proxy):
    """Takes so many bytes, then nothing."""

    def __init__(self, port, limit):
        self.limit = limit
        super().__init__(port)

    def send_up(self, client, server, data):
        self.limit -= len(data)
        if self.limit < 0:
            self.listener.close()
            self.close(client, server)
            raise OSError
        super().send_up(client, server, data)


def test_another_process_goes_on_with_an_upload(server, alone):
    one = attnprune.tensor(numpy.random.default_rng(1).standard_normal((4, MIB)).astype("f4"))
    with attnprune.Client(Breaks(lambda: server.port, 6 * MIB).address,
                          retry=attnprune.Retry(patience=0)) as first, \
            pytest.raises(attnprune.Unavailable):
        first.upload(one)
    committed = alone.query_upload(one.ref.sha256)
    assert 0 < committed < 16 * MIB
    seen = []
    sent = transfer.upload(alone.connection, [one], lambda state: seen.append(state.sent))
    assert sent.sent == 16 * MIB - committed and seen == sorted(seen) and sent.total == 16 * MIB
    assert alone.download_bytes(one.ref.sha256) == one.data


def test_rows_are_written_as_they_come(tmp_path):
    writer = safetensors.RowWriter(tmp_path / "x.safetensors", "x", limit=5 * 4 * 3 * 4)
    values = numpy.random.default_rng(2).standard_normal((7, 4, 3)).astype("f4")
    writer.add(values[:2])
    writer.add(values[2:4])
    writer.add(values[4:])  # one more than the limit
    writer.add(values[0, :2])  # shorter
    writer.close()
    file = safetensors.File(tmp_path / "x.safetensors")
    assert file.names == ["x", "x.1", "x.2"]
    assert [file.array(name).shape for name in file.names] == [(4, 4, 3), (3, 4, 3), (1, 2, 3)]
    assert (numpy.concatenate([file.array("x"), file.array("x.1")]) == values).all()
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_file_that_is_none_is_refused(tmp_path):
    for name, data in (("short", b"123"), ("endless", b"\xff" * 16), ("text", b"\2" + b"\0" * 7 + b"{]")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(attnprune.InvalidArgument, match="must be a .safetensors file, got"):
            safetensors.File(tmp_path / name)


def test_what_is_written_is_read(tmp_path):
    safetensors.write(tmp_path / "a.safetensors", {"a": numpy.eye(3), "b": numpy.ones(2, "f2")})
    file = safetensors.File(tmp_path / "a.safetensors")
    assert (file.array("a") == numpy.eye(3)).all() and file.array("b").dtype == numpy.float16


def test_what_is_stored_is_listed_as_a_job_names_it(alone, layer, batches):
    (loose,) = alone.upload({"loose": numpy.arange(40, dtype="f4")})
    job = alone.submit(layer, batches, methods="magnitude").wait(progress=False)
    stored = list(alone.list_tensors(page_size=2))
    by_use = {one.used_as: one for one in stored if one.used_by == job.name}
    assert by_use["problem.projections.w_q"].tensor == job.message.problem.projections.w_q
    assert by_use["calibration[0]"].size_bytes == batches[0].nbytes
    assert (alone.download(by_use["calibration[0]"].tensor) == batches[0]).all()
    assert "results[0].matrices[0].mask" in by_use
    digests = [one.tensor.sha256 for one in stored]
    assert digests == sorted(digests) and loose.sha256 in digests
    (unused,) = alone.list_tensors(unused=True)
    assert unused.tensor.sha256 == loose.sha256 and not unused.used_by
    with pytest.raises(attnprune.InvalidArgument, match="page_size"):
        next(alone.list_tensors(page_size=5000))
