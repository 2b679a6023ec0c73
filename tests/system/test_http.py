"""The HTTP API by curl as docs/http.md has it, and its OpenAPI description against what it answers."""
import hashlib
import http.client
import json
import os
import pathlib
import re
import subprocess

import jsonschema
import numpy
import pytest

import safetensors
from harness import LIMIT, ROOT, Client, Server, layer_job, submit, wait_for
from google.protobuf import json_format

OPENAPI = json.loads((pathlib.Path(__file__).parent / "openapi31.schema.json").read_text())


class Http(Server):
    """A server with its HTTP port."""

    def __init__(self, folder):
        self.port_file = folder.with_suffix(".http")
        super().__init__(folder, "--http-listen", "127.0.0.1:0", "--http-port-file", self.port_file)

    @property
    def http(self):
        return f"127.0.0.1:{self.port_file.read_text().strip()}"

    def ask(self, verb, path, body=None):
        """(code, body)"""
        connection = http.client.HTTPConnection(self.http, timeout=LIMIT)
        connection.request(verb, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory):
    with Http(tmp_path_factory.mktemp("http") / "data") as server:
        yield server


@pytest.fixture(name="document", scope="module")
def fixture_document(server):
    code, body = server.ask("GET", "/api/v1/openapi.json")
    assert code == 200
    return json.loads(body)


# --- curl ---

def test_the_examples_of_the_docs_prune_a_layer(server, tmp_path):
    section = (ROOT / "docs/http.md").read_text().split("\n## A job by curl alone\n")[1]
    script = section.split("```sh\n")[1].split("```")[0]
    assert "S=http://127.0.0.1:8080\n" in script
    script = script.replace("127.0.0.1:8080", server.http)
    done = subprocess.run(["bash", "-eu", "-o", "pipefail", "-c", script], cwd=tmp_path, text=True,
                          capture_output=True, timeout=LIMIT, check=False,
                          env={**os.environ, "PATH": f"/usr/bin:{os.environ['PATH']}"})  # with numpy
    assert done.returncode == 0, done.stderr + done.stdout
    assert '{"committedBytes":"9000"}' in done.stdout
    assert done.stdout.rstrip().endswith("{}"), "deleted"
    assert "event: end" in (tmp_path / "events.txt").read_text()
    before = numpy.fromfile(tmp_path / "w_q.f32", numpy.float32).reshape(64, 64)
    tensors = safetensors.read(tmp_path / "pruned.safetensors")
    assert set(tensors) == {"w_q", "w_q.mask", "w_k", "w_k.mask"}
    dtype, shape, data = tensors["w_q"]
    weights = numpy.frombuffer(data, numpy.float32).reshape(shape)
    mask = numpy.frombuffer(tensors["w_q.mask"][2], bool).reshape(shape)
    assert (dtype, tensors["w_q.mask"][0]) == ("F32", "BOOL")
    assert (weights[~mask] == 0).all() and abs(mask.mean() - 0.5) < 1e-3
    kept = numpy.load(tmp_path / "w_q.mask.npy")
    assert kept.dtype == bool and kept.shape == before.shape and kept.sum() == before.size // 2


def test_an_upload_goes_on_after_a_kill_of_the_server(tmp_path):
    data = numpy.random.default_rng(3).bytes(8 << 20)
    digest = hashlib.sha256(data).hexdigest()
    address = f"/api/v1/uploads/big?sha256={digest}&sizeBytes={len(data)}&dtype=F32"
    with Http(tmp_path / "data") as server:
        connection = http.client.HTTPConnection(server.http, timeout=LIMIT)
        connection.putrequest("PUT", address)
        connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data[:5 << 20])

        def committed():
            return int(json.loads(server.ask("GET", "/api/v1/uploads/big")[1])["committedBytes"])
        wait_for(lambda: committed() >= 4 << 20, "most of it is stored")
        server.kill()
        server.start()
        offset = committed()
        assert 4 << 20 <= offset <= 5 << 20
        code, body = server.ask("PUT", f"{address}&offset={offset}", data[offset:])
        assert code == 200, body
        assert server.ask("GET", f"/api/v1/tensors/{digest}") == (200, data)


def test_an_upload_of_any_size_takes_no_memory_for_it(tmp_path):
    data = bytes(96 << 20)
    digest = hashlib.sha256(data).hexdigest()
    with Http(tmp_path / "data") as server:
        before = server.memory_bytes()
        address = f"/api/v1/uploads/u?sha256={digest}&sizeBytes={len(data)}&dtype=F32"
        assert server.ask("PUT", address, data)[0] == 200
        connection = http.client.HTTPConnection(server.http, timeout=LIMIT)
        connection.request("GET", f"/api/v1/tensors/{digest}")
        answer, found = connection.getresponse(), hashlib.sha256()
        while piece := answer.read(1 << 20):
            found.update(piece)
        assert found.hexdigest() == digest
        assert server.memory_bytes("VmHWM") < before + (48 << 20)


# --- The description ---

def test_the_description_is_openapi_3_1(document):
    jsonschema.Draft202012Validator.check_schema(OPENAPI)
    errors = list(jsonschema.Draft202012Validator(OPENAPI).iter_errors(document))
    assert not errors, errors[0]
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_a_damaged_description_is_none(document):
    for damage in (lambda d: d["paths"]["/api/v1/jobs"]["get"].pop("responses"),
                   lambda d: d.update(openapi="3.0.3"),
                   lambda d: d["paths"].update({"jobs": {}}),
                   lambda d: d["components"]["schemas"]["Job"].update(type="message")):
        damaged = json.loads(json.dumps(document))
        damage(damaged)
        assert list(jsonschema.Draft202012Validator(OPENAPI).iter_errors(damaged))


def check_answer(document, verb, path, code, body):
    """Against the schema of the address that `path` is at."""
    address = next(pattern for pattern in sorted(document["paths"], key=len, reverse=True)
                   if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/:]+", re.escape(pattern)), path))
    answers = document["paths"][address][verb.lower()]["responses"]
    described = answers.get(str(code), answers["default"])
    schema = {**described["content"]["application/json"]["schema"], "components": document["components"]}
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(json.loads(body)))
    assert not errors, (verb, path, errors[0].message, list(errors[0].path))
    return json.loads(body)


def test_what_a_server_answers_is_as_described(server, document):
    with Client(server.address) as client:
        job = client.finish(submit(client, methods=(("magnitude", {}), ("gd", {"steps": 5}))).name)
        again = json_format.MessageToDict(layer_job()[0])
    job_url = f"/api/v1/{job.name}"

    def ask(verb, path, expected, body=None):
        code, answer = server.ask(verb, path, body and json.dumps(body))
        assert code == expected, answer
        return check_answer(document, verb, path.split("?")[0], code, answer)
    ask("GET", "/api/v1/server", 200)
    ask("GET", "/api/v1/session", 200)
    assert ask("GET", job_url, 200)["results"][0]["heldOut"]["perHead"]
    assert ask("GET", "/api/v1/jobs", 200)["jobs"]
    ask("GET", "/api/v1/runs", 200)
    ask("GET", f"{job_url}/results/0/density?matrix=w_q", 200)
    assert ask("POST", "/api/v1/jobs", 200, {"job": again, "validateOnly": True})["estimate"]
    queued = ask("POST", "/api/v1/jobs", 200, {"job": again, "requestId": "one"})
    assert ask("POST", "/api/v1/jobs", 200, {"job": again, "requestId": "one"})["name"] == queued["name"]
    ask("POST", f"/api/v1/{queued['name']}:cancel", 200)
    ask("DELETE", job_url, 200)
    ask("POST", "/api/v1/tensors:findMissing", 200, {"sha256": ["0" * 64]})
    ask("GET", "/api/v1/uploads/none", 200)
    for verb, path, body in (("GET", job_url, None), ("POST", "/api/v1/jobs", {"jobs": 1}),
                             ("POST", "/api/v1/runs", {"run": {}}), ("PUT", "/api/v1/uploads/u", None),
                             ("GET", "/api/v1/tensors/x", None)):
        code, answer = server.ask(verb, path, body and json.dumps(body))
        assert 400 <= code < 500
        check_answer(document, verb, path, code, answer)


def test_events_are_as_described(server, document):
    with Client(server.address) as client:
        job = client.finish(submit(client, methods=(("gd", {"steps": 20}),)).name)
    _, text = server.ask("GET", f"/api/v1/{job.name}/events")
    events = [json.loads(line[6:]) for line in text.decode().splitlines()
              if line.startswith("data: {\"")]
    assert {"progress", "terminal"} <= {kind for event in events for kind in event}
    schema = {"$ref": "#/components/schemas/JobEvent", "components": document["components"]}
    for event in events:
        jsonschema.Draft202012Validator(schema).validate(event)
