"""A small S3 on loopback, for tests: checks signatures and digests of what it gets, and fails when it is told to.

    s3_server.py FOLDER

prints "serving http://127.0.0.1:PORT", where /tensors is a bucket, as is http://tensors.localhost:PORT; the key is `tester`, its secret `opensesame`.
FOLDER/objects/<key, quoted> is an object, FOLDER/parts/<upload>/<number> a part. FOLDER/fault, while it is there, has
one JSON object: {"method": "PUT", "contains": "partNumber", "status": 503, "code": "SlowDown", "times": 2}; times counts
down, status 0 closes the connection without an answer, "cut" sends so many bytes of an object and no more, and "hold" so
many, and the others once FOLDER/held, which is there by then, is removed.
FOLDER/machine_keys, while it is there, has what a machine's address for keys answers: as an EC2 instance's, of the role
`worker`, and at /container to the token `pod`; the same to a POST at / that assumes the role `worker` by the token
`pod`, as STS. The keys in it are taken, with their session token alone."""
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import secrets
import shutil
import socketserver
import sys
import threading
import time
import urllib.parse
from xml.sax.saxutils import escape

BUCKET, REGION = "tensors", "us-east-1"
ROLES = "/latest/meta-data/iam/security-credentials/"


def sign(secret, date, words):
    key = b"AWS4" + secret.encode()
    for word in (date, REGION, "s3", "aws4_request", words):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return key.hex()


class Refused(Exception):
    def __init__(self, status, code, headers=(), extra=""):
        super().__init__(code)
        self.status, self.code, self.headers, self.extra = status, code, headers, extra


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    folder = None  # pathlib.Path
    lock = threading.Lock()

    def log_message(self, *_):
        pass

    # --- what is asked ---

    def fault(self):
        """The fault that is due, counted down."""
        with self.lock:
            path = self.folder / "fault"
            try:
                fault = json.loads(path.read_text())
            except (OSError, ValueError):
                return None
            if fault.get("method", self.command) != self.command or fault.get("contains", "") not in self.path:
                return None
            fault["times"] = fault.get("times", 1) - 1
            path.unlink() if fault["times"] <= 0 else path.write_text(json.dumps(fault))
            return fault

    def machine_keys(self):
        try:
            return (self.folder / "machine_keys").read_bytes()
        except FileNotFoundError:
            return None

    def keys(self):
        """Secret and session token by identifier."""
        known = {"tester": ("opensesame", None)}
        if self.machine_keys() is not None:
            words = json.loads(self.machine_keys())
            known[words["AccessKeyId"]] = (words["SecretAccessKey"], words["Token"])
        return known

    def assume_role(self, body, told):
        """As AWS's STS."""
        form = dict(urllib.parse.parse_qsl(body.decode()))
        if (form.get("Action"), form.get("RoleArn")) != ("AssumeRoleWithWebIdentity", "arn:aws:iam::1:role/worker"):
            self.refuse(Refused(403, "AccessDenied"))
        elif form.get("WebIdentityToken") != "pod" or form.get("Version") != "2011-06-15":
            self.refuse(Refused(400, "InvalidIdentityToken"))
        else:
            words = json.loads(told)
            words["SessionToken"] = words.pop("Token")
            inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in words.items())
            self.answer(200, f"<R><Name>{form['RoleSessionName']}</Name><Credentials>{inner}</Credentials></R>".encode())

    def tell_keys(self, body):
        """Whether it was a machine's address for keys that was asked."""
        told = self.machine_keys()
        if told is None:
            return False
        if (self.command, self.path) == ("POST", "/"):
            self.assume_role(body, told)
            return True
        known = self.headers.get("X-aws-ec2-metadata-token") == "known"
        answers = {("PUT", "/latest/api/token"): ("X-aws-ec2-metadata-token-ttl-seconds" in self.headers, b"known"),
                   ("GET", ROLES): (known, b"worker\n"), ("GET", ROLES + "worker"): (known, told),
                   ("GET", "/container"): (self.headers.get("Authorization") == "pod", told)}
        if (self.command, self.path) not in answers:
            return False
        allowed, body = answers[self.command, self.path]
        self.answer(200 if allowed else 401, body if allowed else b"")
        return True

    def check_signature(self, body):
        words = self.headers.get("Authorization", "")
        if not words.startswith("AWS4-HMAC-SHA256 "):
            raise Refused(403, "AccessDenied")
        fields = dict(word.strip().split("=", 1) for word in words.split(" ", 1)[1].split(","))
        key, date, region, _, _ = fields["Credential"].split("/")
        keys = self.keys()
        if key not in keys:
            raise Refused(403, "InvalidAccessKeyId")
        secret, token = keys[key]
        if self.headers.get("x-amz-security-token") != token:
            raise Refused(403, "InvalidToken")
        if region != REGION:
            raise Refused(400, "AuthorizationHeaderMalformed", extra=f"<Region>{REGION}</Region>")
        path, _, query = self.path.partition("?")
        names = fields["SignedHeaders"].split(";")
        for needed in ("host", "x-amz-content-sha256", "x-amz-date"):
            if needed not in names:
                raise Refused(403, "AccessDenied")
        digest = self.headers["x-amz-content-sha256"]
        canonical = "\n".join([
            self.command, path, "&".join(sorted(query.split("&"))),
            "".join(f"{name}:{(self.headers[name] or '').strip()}\n" for name in names), ";".join(names), digest])
        scope = f"{date}/{REGION}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", self.headers["x-amz-date"], scope,
                          hashlib.sha256(canonical.encode()).hexdigest()])
        if not hmac.compare_digest(sign(secret, date, text), fields["Signature"]):
            raise Refused(403, "SignatureDoesNotMatch", extra=f"<StringToSign>{escape(text)}</StringToSign>")
        if digest != hashlib.sha256(body).hexdigest():
            raise Refused(400, "XAmzContentSHA256Mismatch")

    def names(self, path):
        """Bucket and key: the bucket is in the path, or before the host's name."""
        host = self.headers["Host"].partition(":")[0]
        if host.endswith(".localhost"):
            return host.removesuffix(".localhost"), path
        bucket, _, key = path.partition("/")
        return bucket, key

    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.tell_keys(body):
            return
        fault = self.fault()
        if fault and not {"cut", "hold"} & set(fault):
            if fault["status"] == 0:
                self.close_connection = True
                return
            self.refuse(Refused(fault["status"], fault.get("code", "Fault"),
                                [tuple(header) for header in fault.get("headers", [])]))
            return
        try:
            self.check_signature(body)
            path, _, query = self.path.partition("?")
            words = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
            bucket, key = self.names(urllib.parse.unquote(path[1:]))
            if bucket != BUCKET:
                raise Refused(404, "NoSuchBucket")
            if not key:
                self.list(words)
            else:
                getattr(self, f"on_{self.command.lower()}")(key, words, body, fault)
        except Refused as refused:
            self.refuse(refused)
        except ConnectionError:
            self.close_connection = True  # nobody reads any more
        except FileNotFoundError:
            self.refuse(Refused(404, "NoSuchUpload" if "uploadId" in self.path else "NoSuchKey"))

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = serve

    # --- what is answered ---

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name == "Content-Length" for name, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, refused):
        self.answer(refused.status, f"<?xml version='1.0'?><Error><Code>{refused.code}</Code><Message>no</Message>"
                    f"{refused.extra}</Error>".encode(), refused.headers)

    def path_of(self, key):
        return self.folder / "objects" / urllib.parse.quote(key, safe="")

    def write(self, path, body):
        temporary = self.folder / secrets.token_hex(8)
        temporary.write_bytes(body)
        os.replace(temporary, path)

    def list(self, words):
        names = sorted(urllib.parse.unquote(name) for name in os.listdir(self.folder / "objects"))
        names = [name for name in names if name.startswith(words.get("prefix", ""))
                 and name > words.get("continuation-token", "")]
        most = int(words.get("max-keys", 3))  # so that every list of some length has pages
        more = f"<NextContinuationToken>{escape(names[most - 1])}</NextContinuationToken>" if len(names) > most else ""
        keys = "".join(f"<Contents><Key>{escape(name)}</Key></Contents>" for name in names[:most])
        self.answer(200, f"<ListBucketResult>{more}{keys}</ListBucketResult>".encode())

    def on_get(self, key, _, __, fault):
        size = os.path.getsize(self.path_of(key))
        first = int((self.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
        with open(self.path_of(key), "rb") as file:
            file.seek(first)
            self.answer(206 if "Range" in self.headers else 200, b"", [("Content-Length", str(size - first))])
            if fault and "cut" in fault:
                self.wfile.write(file.read(fault["cut"]))
                self.close_connection = True
                return
            if fault:
                held = self.folder / "held"
                held.touch()
                self.wfile.write(file.read(fault["hold"]))
                self.wfile.flush()
                while held.exists():
                    time.sleep(0.01)
            shutil.copyfileobj(file, self.wfile, 1 << 20)

    def on_head(self, key, *_):
        self.answer(200, b"", [("Content-Length", str(os.path.getsize(self.path_of(key))))])

    def on_put(self, key, words, body, _):
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        if "uploadId" in words:
            folder = self.folder / "parts" / words["uploadId"]
            if not folder.is_dir():
                raise FileNotFoundError(folder)
            self.write(folder / f"{words['partNumber']}.etag", etag.encode())
            self.write(folder / words["partNumber"], body)
        else:
            self.write(self.path_of(key), body)
        self.answer(200, b"", [("ETag", etag)])

    def on_post(self, key, words, body, _):
        if "uploads" in words:
            upload = secrets.token_hex(8) + "+/"  # that must be escaped
            (self.folder / "parts" / urllib.parse.quote(upload, safe="")).mkdir()
            self.answer(200, f"<R><UploadId>{urllib.parse.quote(upload, safe='')}</UploadId></R>".encode())
            return
        folder = self.folder / "parts" / words["uploadId"]
        parts = sorted((path for path in folder.iterdir() if not path.suffix), key=lambda path: int(path.name))
        etags = [path.with_suffix(".etag").read_text() for path in parts]
        if [part for part in parts[:-1] if part.stat().st_size < 5 << 20]:
            raise Refused(400, "EntityTooSmall")
        if body.decode().count("<PartNumber>") != len(parts) or not all(etag in body.decode() for etag in etags):
            raise Refused(400, "InvalidPart")
        whole = self.folder / secrets.token_hex(8)
        with open(whole, "wb") as file:
            for part in parts:
                with open(part, "rb") as source:
                    shutil.copyfileobj(source, file, 1 << 20)
        os.replace(whole, self.path_of(key))
        shutil.rmtree(folder)
        self.answer(200, b"<CompleteMultipartUploadResult/>")

    def on_delete(self, key, words, *_):
        if "uploadId" in words:
            shutil.rmtree(self.folder / "parts" / words["uploadId"])
        else:
            self.path_of(key).unlink(missing_ok=True)
        self.answer(204)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # somebody hung up
            super().handle_error(request, client_address)


def main():
    Handler.folder = pathlib.Path(sys.argv[1])
    for name in ("objects", "parts"):
        (Handler.folder / name).mkdir(parents=True, exist_ok=True)
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    server = Server(("127.0.0.1", port), Handler)
    print(f"serving http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
