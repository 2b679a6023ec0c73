"""S3-compatible servers of the test's own, on loopback: tests/support/s3_server.py, and npm's s3rver."""
import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

from harness import ROOT, wait_for

S3RVER = pathlib.Path(os.environ.get("ATTNPRUNE_S3RVER", ROOT / "build/s3rver")) / "node_modules/s3rver/bin/s3rver.js"


class S3:
    """Keeps its objects and its port through stops. `url`: of its bucket; `keys`: for the environment."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="attnprune-s3-"))
        self.port = 0
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder)

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"s3://tensors/of-the-test?endpoint={self.endpoint}&region=us-east-1"

    def start(self):
        log = self.folder / "log"
        with open(log, "wb") as file:
            self.process = subprocess.Popen(self.command(), stdout=file, stderr=file)

        def port():
            assert self.process.poll() is None, f"it ended: {log.read_text()}"
            lines = [line for line in log.read_text().splitlines(keepends=True) if "127.0.0.1:" in line]
            return lines and lines[0].endswith("\n") and int(lines[0].rsplit(":", 1)[1])
        self.port = wait_for(port, "the S3 server listens")

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None

    @contextlib.contextmanager
    def stopped(self):
        self.stop()
        try:
            yield
        finally:
            self.start()


class SmallS3(S3):
    keys = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "opensesame"}

    def command(self):
        return ["/usr/bin/python3", "-B", ROOT / "tests/support/s3_server.py", self.folder, str(self.port)]


class S3rver(S3):
    keys = {"AWS_ACCESS_KEY_ID": "S3RVER", "AWS_SECRET_ACCESS_KEY": "S3RVER"}

    def command(self):
        assert S3RVER.exists(), f"{S3RVER} is missing: ./dev.sh test installs it"
        return ["node", S3RVER, "-d", self.folder / "objects", "-a", "127.0.0.1", "-p", str(self.port),
                "--configure-bucket", "tensors"]
