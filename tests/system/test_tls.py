"""Both ports over TLS with the real programs: the commands of docs/operate.md, certificates exchanged under
open streams, clients that must show one, and what is said where it does not fit."""
import os
import shlex
import signal
import socket
import ssl
import subprocess
import urllib.request

import grpc
import pytest
from attnprune.v1 import job_pb2 as job_api
from attnprune.v1 import prune_service_pb2 as prune_api

from harness import BIN, LIMIT, MODEL, ROOT, Client, Server, cli, submit, wait_for

NAMES = "DNS:localhost,IP:127.0.0.1"
STREAMS = 100


def openssl(*arguments, folder):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=LIMIT)


class Authority:
    """Signs certificates; all files are in its folder."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt",
                folder=folder)
        self.file = folder / f"{name}.crt"

    def issue(self, name, names=NAMES, days="1"):
        """Writes NAME.crt and NAME.key; returns their paths."""
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
                f"/CN={name}", "-addext", f"subjectAltName={names}", "-keyout", f"{name}.key", "-out",
                f"{name}.csr", folder=self.folder)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{self.name}.crt", "-CAkey",
                f"{self.name}.key", "-CAcreateserial", "-days", days, "-copy_extensions", "copy", "-out",
                f"{name}.crt", folder=self.folder)
        return self.folder / f"{name}.crt", self.folder / f"{name}.key"


class TlsServer(Server):
    """With a certificate of `authority`, on HTTPS too."""

    def __init__(self, folder, authority, *flags):
        self.authority = authority
        self.certificate, self.key = authority.issue("server")
        self.http_file = folder.with_suffix(".http-port")
        super().__init__(folder, "--tls-cert-file", self.certificate, "--tls-key-file", self.key,
                         "--http-listen=127.0.0.1:0", "--http-port-file", self.http_file, *flags)

    @property
    def http_port(self):
        return int(self.http_file.read_text())

    def exchange(self, authority):
        """Puts a certificate of `authority` in the place of the present one, as tools do: file by file."""
        certificate, key = authority.issue("next")
        os.replace(certificate, self.certificate)
        os.replace(key, self.key)
        wait_for(lambda: "tls.reload " in self.log, "the server takes the next certificate")

    def connect(self, authority=None, pair=None):
        return Client(self.address, grpc.ssl_channel_credentials(
            (authority or self.authority).file.read_bytes(),
            pair and pair[1].read_bytes(), pair and pair[0].read_bytes()))

    def https(self, authority=None, pair=None):
        """An SSL connection to the HTTP port."""
        context = ssl.create_default_context(cafile=(authority or self.authority).file)
        if pair:
            context.load_cert_chain(*pair)
        plain = socket.create_connection(("127.0.0.1", self.http_port), timeout=LIMIT)
        return context.wrap_socket(plain, server_hostname="127.0.0.1")


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "authority")


@pytest.fixture
def server(data_dir, authority):  # pylint: disable=redefined-outer-name
    with TlsServer(data_dir, authority) as running:
        yield running


def commands_of_the_documentation():
    """The commands of docs/operate.md's section on TLS, a list of lines a block."""
    text = (ROOT / "docs/operate.md").read_text()
    section = text.split("## TLS and tokens\n")[1].split("\n## ")[0]
    blocks = section.split("```")[1::2]
    return [line for line in "".join(blocks).replace("\\\n", " ").splitlines() if line]


def test_the_documented_commands_give_a_server_and_a_client(tmp_path):
    lines = commands_of_the_documentation()
    make = next(line for line in lines if line.startswith("openssl "))
    serve = next(line for line in lines if line.startswith("attnprune-server --data-dir"))
    call = next(line for line in lines if line.startswith("attnprune "))
    subprocess.run(shlex.split(make), cwd=tmp_path, check=True, capture_output=True, timeout=LIMIT)
    token = next(line for line in lines if line.startswith("attnprune-server token"))
    new, _, file = token.partition(" > ")
    made = subprocess.run([BIN / "attnprune-server", *shlex.split(new)[1:]], cwd=tmp_path, check=True,
                          capture_output=True, timeout=LIMIT)
    (tmp_path / file).write_bytes(made.stdout)
    given = shlex.split(serve)[1:]
    port_file = tmp_path / "port"
    with subprocess.Popen([BIN / "attnprune-server", *given, "--listen=127.0.0.1:0", "--http-listen=",
                           "--port-file", port_file], cwd=tmp_path) as process:
        try:
            port = wait_for(lambda: port_file.exists() and port_file.read_text().strip(), "it listens")
            words = shlex.split(call.replace(":50051", f":{port}"))[1:]
            done = cli(*words, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
        finally:
            process.send_signal(signal.SIGTERM)


def test_a_job_goes_its_way_over_tls_by_flags_and_by_the_environment(server):
    flags = ["--server", server.address, "--ca-file", server.authority.file]
    done = cli("submit", *flags, "--watch", "--model", MODEL, "--layer", 1, "--calibration",
               MODEL / "calibration.safetensors", "--method", "magnitude", "--output",
               server.folder.with_suffix(".out"))
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "ATTNPRUNE_SERVER": server.address,
                   "ATTNPRUNE_CA_FILE": str(server.authority.file)}
    listed = cli("list", env=environment)
    assert "SUCCEEDED" in listed.stdout.upper(), listed.stderr
    assert cli("health", env=environment).returncode == 0


def test_the_example_in_python_calls_over_tls(server, tmp_path):
    (tmp_path / "token").write_text("a-token\n")
    environment = {**os.environ, "ATTNPRUNE_CA_FILE": str(server.authority.file),
                   "ATTNPRUNE_TOKEN_FILE": str(tmp_path / "token")}
    done = subprocess.run(["/usr/bin/python3", ROOT / "examples/grpc_call.py", server.address,
                           "attnprune.v1.PruneService/ListJobs"], text=True, capture_output=True,
                          timeout=LIMIT, check=False, env=environment)
    assert done.stdout.strip() == "{}", done.stderr


def test_the_page_and_its_streams_come_over_https(server):
    context = ssl.create_default_context(cafile=server.authority.file)
    url = f"https://127.0.0.1:{server.http_port}"
    with urllib.request.urlopen(f"{url}/", context=context) as answer:
        assert b"<html" in answer.read()
    with server.connect() as client:
        name = submit(client, methods=(("magnitude", {}),)).name
        client.finish(name)
    with urllib.request.urlopen(f"{url}/api/v1/{name}/events", context=context) as events:
        assert b"terminal" in events.read()
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=LIMIT) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert plain.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_a_certificate_exchanged_under_a_hundred_streams_breaks_none(server, tmp_path):
    with server.connect() as client:
        name = submit(client, methods=(("gd", {"steps": 1_000_000}),)).name
        clients = [server.connect() for _ in range(STREAMS)]
        streams = [each.watch(name) for each in clients]
        viewers = [server.https() for _ in range(STREAMS // 4)]
        for stream in streams:
            next(stream)
        for viewer in viewers:
            viewer.sendall(f"GET /api/v1/{name}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert viewer.recv(1000).startswith(b"HTTP/1.1 200 ")
        following = Authority(tmp_path, "following")
        server.exchange(following)
        with pytest.raises(ssl.SSLCertVerificationError):
            server.https()
        server.https(following).close()
        with server.connect(following) as later:
            later.cancel(name)
        for stream in streams:
            *_, last = stream
            assert last.terminal.state == job_api.CANCELLED
        for viewer in viewers:
            received = b""
            while data := viewer.recv(1 << 16):
                received += data
            assert b"terminal" in received and received.endswith(b"0\r\n\r\n")
            viewer.close()
        for each in clients:
            each.channel.close()
    assert server.log.count("tls.reload_failed") <= 1  # where it looked between the two files


def test_a_pair_that_does_not_fit_is_not_taken(server):
    certificate, _ = server.authority.issue("other")
    os.replace(certificate, server.certificate)
    wait_for(lambda: "tls.reload_failed" in server.log, "the server says that it does not fit")
    with server.connect() as client:
        client.jobs.ListJobs(prune_api.ListJobsRequest())
    server.https().close()


def test_clients_must_show_a_certificate_where_the_server_asks_for_one(data_dir, authority, tmp_path):
    of_clients = Authority(tmp_path, "of-clients")
    own, foreign = of_clients.issue("own", "DNS:me"), authority.issue("foreign", "DNS:me")
    with TlsServer(data_dir, authority, "--tls-client-ca-file", of_clients.file) as server:
        flags = ["list", "--server", server.address, "--ca-file", authority.file, "--patience", "0s"]
        shown = ["--cert-file", own[0], "--key-file", own[1]]
        assert cli(*flags, *shown).returncode == 0
        without = cli(*flags)
        assert without.returncode == 3
        assert "may want a certificate" in without.stderr
        assert cli(*flags, "--cert-file", foreign[0], "--key-file", foreign[1]).returncode == 3
        with server.https(pair=own) as https:
            https.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert https.recv(1000).startswith(b"HTTP/1.1 200 ")
        for pair in (None, foreign):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                with server.https(pair=pair) as https:
                    https.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    https.recv(1000)


def test_the_command_line_says_why_it_does_not_take_a_server(server, tmp_path):
    other = Authority(tmp_path, "other").file
    named = server.authority.issue("elsewhere", "DNS:elsewhere.example")
    with Server(tmp_path / "named", "--tls-cert-file", named[0], "--tls-key-file", named[1]) as elsewhere, \
            Server(tmp_path / "plain") as plain:
        for address, flags, word in (
                (server.address, ["--ca-file", other], "not of the authorities in"),
                (server.address, ["--tls"], "not of the system's authorities"),
                (elsewhere.address, ["--ca-file", server.authority.file], "for another name"),
                (plain.address, ["--ca-file", server.authority.file], "speaks no TLS"),
                (server.address, ["--patience", "0s"], "may speak TLS only")):
            done = cli("list", "--server", address, *flags, limit=9)  # less than it would be patient
            assert done.returncode == 3, (flags, done.stderr)
            assert word in done.stderr, (flags, done.stderr)


def test_a_token_goes_to_this_machine_or_over_tls_and_into_no_error(server, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret-token\n")
    flags = ["list", "--token-file", token]
    assert cli(*flags, "--server", server.address, "--ca-file", server.authority.file).returncode == 0
    refused = cli(*flags, "--server", "192.0.2.1:50051")
    assert refused.returncode == 2
    assert "token_file must go with TLS" in refused.stderr
    token.write_text("secret token\n")
    broken = cli(*flags, "--server", server.address, "--ca-file", server.authority.file)
    assert broken.returncode == 2
    assert "printable ASCII" in broken.stderr
    assert "secret" not in refused.stderr + broken.stderr + server.log


def test_a_server_that_cannot_use_its_files_names_flag_file_and_rule(data_dir, authority, tmp_path):
    certificate, key = authority.issue("server")
    other = authority.issue("other")[1]
    missing = tmp_path / "missing.crt"
    for flags, words in (
            (["--tls-cert-file", certificate], ["tls_key_file must be given"]),
            (["--tls-client-ca-file", certificate], ["tls_client_ca_file", "tls_cert_file"]),
            (["--tls-cert-file", missing, "--tls-key-file", key], ["tls_cert_file", str(missing)]),
            (["--tls-cert-file", key, "--tls-key-file", key], ["tls_cert_file", str(key), "PEM"]),
            (["--tls-cert-file", certificate, "--tls-key-file", other],
             ["tls_key_file", str(other), str(certificate)]),
            (["--tls-cert-file", certificate, "--tls-key-file", key, "--http-listen", "0.0.0.0:0"],
             ["http_listen must be", "--token-file", "--allow-unauthenticated-network"])):
        code, said = Server(data_dir, *flags).refuse()
        assert code == 2, (flags, said)
        for word in words:
            assert word in said, (flags, said)
        assert not data_dir.exists()


def test_an_expired_certificate_is_a_warning(data_dir, authority):
    with TlsServer(data_dir, authority) as server:
        assert "tls.validity" not in server.log
        certificate, key = authority.issue("old", days="-1")
        os.replace(certificate, server.certificate)
        os.replace(key, server.key)
        wait_for(lambda: "tls.validity" in server.log, "the server says that it has expired")
        assert "expired on" in server.log
