"""A server of one's own: its folder, its end, and who may call a server of others."""
import os
import subprocess

import pytest

import attnprune
from harness import BIN, LIMIT, Server, wait_for

SERVER = BIN / "attnprune-server"


def test_a_local_server_goes_with_its_folder(layer, batches):
    with attnprune.local(server=SERVER) as client:
        folder = client.data_dir
        assert client.submit(layer, batches, methods="wanda").result().method == "wanda"
        assert client.target.startswith("127.0.0.1:") and "server.start" in client.log()
    assert not folder.exists()
    client.close()  # once more is nothing
    with pytest.raises(ProcessLookupError):
        os.kill(client._process.pid, 0)  # pylint: disable=protected-access


def test_a_job_goes_on_in_a_folder_that_stays(layer, batches, tmp_path):
    folder = tmp_path / "kept"
    with attnprune.local(folder, server=SERVER) as client:
        name = client.submit(layer, batches, methods=("gd:steps=100",)).name
        next(event for event in client.watch(name) if event.progress.step > 3)
    with attnprune.local(folder, server=SERVER) as client:
        job = client.job(name).wait(progress=False)
        assert job.state == "SUCCEEDED" and job.message.attempt == 2


def test_the_program_is_found_on_the_path(monkeypatch):
    monkeypatch.setenv("PATH", str(BIN))
    with attnprune.local() as client:
        client.check_health()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(attnprune.InvalidArgument) as refused:
        attnprune.local()
    assert refused.value.field == "server" and "neither in this wheel nor on PATH" in str(refused.value)


def test_a_server_that_cannot_start_says_why():
    with pytest.raises(attnprune.Unavailable, match="has ended: .*--no-such"):
        attnprune.local(server=SERVER, flags=("--no-such",))


def token_of(file, role):
    made = subprocess.run([SERVER, "token", "new", "--tenant", "a", "--role", role, "--token-file",
                           file], text=True, capture_output=True, timeout=LIMIT, check=True)
    return made.stdout.strip()


def test_a_token_is_shown(layer, batches, tmp_path):
    reader, submitter = (token_of(tmp_path / "tokens", role) for role in ("reader", "submitter"))
    with Server(tmp_path / "data", "--token-file", tmp_path / "tokens") as server:
        with attnprune.Client(server.address, token=submitter) as client:
            assert client.submit(layer, batches, methods="wanda").wait(False).state == "SUCCEEDED"
        with attnprune.Client(server.address, token=reader) as client:
            assert len(list(client.jobs())) == 1
            with pytest.raises(attnprune.PermissionDenied):
                client.submit(layer, batches, methods="wanda")
        with attnprune.Client(server.address) as client, pytest.raises(attnprune.Unauthenticated):
            client.server_info()


@pytest.mark.parametrize("token, rule", [("", "must be 1 to 512"), ("two words", "without spaces"),
                                         ("x" * 513, "must be 1 to 512")])
def test_a_token_that_is_none_is_refused(token, rule):
    with pytest.raises(attnprune.InvalidArgument, match=rule) as refused:
        attnprune.Client(token=token)
    assert refused.value.field == "token"


@pytest.mark.parametrize("target, here", [
    ("127.0.0.1:1", True), ("127.9.9.9:1", True), ("[::1]:1", True), ("localhost:1", True),
    ("unix:/run/x", True), ("10.0.0.1:1", False), ("localhost.example.com:1", False),
    ("127.0.0.1.example.com:1", False), ("[::2]:1", False)])
def test_a_token_in_plain_text_is_for_this_machine(target, here):
    if here:
        attnprune.Client(target, token="secret").close()
        return
    with pytest.raises(attnprune.InvalidArgument, match="must go with TLS") as refused:
        attnprune.Client(target, token="secret")
    assert "secret" not in str(refused.value)


def certificate(folder, name, address):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                    "-addext", f"subjectAltName={address}", "-keyout", folder / f"{name}.key", "-out",
                    folder / f"{name}.crt"], check=True, capture_output=True, timeout=LIMIT)
    return folder / f"{name}.crt", folder / f"{name}.key"


def test_tls_and_what_is_said_where_it_does_not_fit(tmp_path):
    cert, key = certificate(tmp_path, "server", "IP:127.0.0.1")
    other, _ = certificate(tmp_path, "other", "IP:127.0.0.1")
    token = token_of(tmp_path / "tokens", "reader")
    with Server(tmp_path / "data", "--tls-cert-file", cert, "--tls-key-file", key, "--token-file",
                tmp_path / "tokens") as server:
        wait_for(lambda: "listening" in server.log or server.port, "the server listens")
        with attnprune.Client(server.address, ca=cert, token=token) as client:
            assert client.server_info().version
        with attnprune.Client(server.address, ca=cert.read_bytes(), token=token) as client:
            assert client.server_info().version
        with attnprune.Client(server.address, ca=other) as client, \
                pytest.raises(attnprune.Unavailable, match="that is not of an authority"):
            client.server_info()
        with attnprune.Client(server.address, retry=attnprune.Retry(patience=0)) as client, \
                pytest.raises(attnprune.Unavailable, match="may speak TLS only"):
            client.server_info()
    with pytest.raises(attnprune.InvalidArgument, match="ca must be in PEM form"):
        attnprune.Client(ca=b"none")
    with pytest.raises(attnprune.InvalidArgument, match="key must be given"):
        attnprune.Client(cert=cert)


def test_the_environment_names_the_server_as_for_the_command_line(tmp_path, monkeypatch):
    (tmp_path / "token").write_text(token_of(tmp_path / "tokens", "reader"))
    with Server(tmp_path / "data", "--token-file", tmp_path / "tokens") as server:
        monkeypatch.setenv("ATTNPRUNE_SERVER", server.address)
        with attnprune.Client() as client, pytest.raises(attnprune.Unauthenticated):
            client.server_info()
        monkeypatch.setenv("ATTNPRUNE_TOKEN_FILE", str(tmp_path / "token"))
        with attnprune.Client() as client:
            assert client.target == server.address and client.server_info().version
        with attnprune.Client(server.address) as client, pytest.raises(attnprune.Unauthenticated):
            client.server_info()  # the token is for the server of the environment
    monkeypatch.setenv("ATTNPRUNE_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(attnprune.InvalidArgument, match="token must be a file that can be read"):
        attnprune.Client()


@pytest.mark.parametrize("kept, said", [(True, "on the same data_dir again"),
                                        (False, "its data_dir keeps jobs")])
def test_ctrl_c_says_what_becomes_of_a_local_servers_job(layer, batches, tmp_path, kept, said):
    def interrupt(event):
        if event.WhichOneof("event") == "progress":
            raise KeyboardInterrupt
    with pytest.raises(attnprune.Interrupted, match=said) as stopped, \
            attnprune.local(tmp_path / "kept" if kept else None, server=SERVER) as client:
        client.submit(layer, batches, methods="gd:steps=1000000").wait(interrupt)
    assert stopped.value.names[0] in str(stopped.value)
