"""What the tests of the page share: a server with its page, one Chromium a file, jobs and runs to show."""
import pytest
from selenium.webdriver.common.keys import Keys

from browser import Browser
from harness import cli, Client, MODEL, Server, submit, wait_for
from attnprune.v1 import job_pb2 as job_api
from attnprune.v1 import prune_service_pb2 as prune_api

HELD_OUT_TEXT = 6_000  # characters
ENDLESS = (("gd", {"steps": 1_000_000}),)
COMPARED = (("magnitude", {}), ("wanda", {}), ("sparsegpt", {}), ("gd", {"eta": 0.2}),
            ("joint", {"long": 1, "steps": 300}))
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")
# The page has been sent the job's last event and shows all that it knows.
WHOLE = "seen.at(-1)?.terminal !== undefined && attnprune.snapshot().drawn"
WHOLE_RUN = "seen.at(-1)?.runTerminal !== undefined && attnprune.snapshot().drawn"
HOSTILE = "<img src=x onerror=problems.push(1)>"
ROLES = ("q", "k", "v", "o", "gate", "up", "down")


class PageServer(Server):
    """A server with its page, on the same two ports through restarts."""

    def __init__(self, folder, *flags):
        super().__init__(folder, *flags)
        self.http_port = 0

    def command(self, port=0, port_file=None):
        http_file = self.folder.with_suffix(".http-port")
        return [*super().command(port, port_file), f"--http-listen=127.0.0.1:{self.http_port}",
                "--http-port-file", http_file]

    def start(self):
        super().start()
        http_file = self.folder.with_suffix(".http-port")
        self.http_port = wait_for(lambda: http_file.exists() and int(http_file.read_text() or 0),
                                  "the page's port is written")

    @property
    def page(self):
        return f"http://127.0.0.1:{self.http_port}/"


@pytest.fixture(scope="module", name="chromium")
def one_chromium():
    with Browser() as started:
        yield started


@pytest.fixture(name="browser")
def clean_browser(chromium):
    """The test's own page; what it or the console complained of fails the test."""
    chromium.emulate()
    chromium.console()
    chromium.expected_codes = set()
    yield chromium
    assert chromium.problems() == []
    chromium.js("localStorage.clear()")


@pytest.fixture(scope="module", name="server")
def page_server(tmp_path_factory):
    with PageServer(tmp_path_factory.mktemp("page") / "data") as running:
        yield running


@pytest.fixture(scope="module", name="client")
def its_client(server):
    with Client(server.address) as connected:
        yield connected


@pytest.fixture(scope="module", name="compared")
def finished_job(client):
    """A job of several methods that has ended."""
    name = submit(client, methods=COMPARED, labels={"set": "compared", "note": HOSTILE}).name
    return client.finish(name)


@pytest.fixture(name="running")
def running_job(client):
    """A job that takes steps until somebody cancels it."""
    name = submit(client, methods=ENDLESS).name
    client.wait_for_step(name, 5)
    yield name
    client.cancel(name)
    client.finish(name)


def submit_run(server, *flags, samples=32):
    """A run of the whole of tiny-llama by the command line; its name. Some held-out rows are enough for
    figures to be compared."""
    held_out = server.folder.with_suffix(".held_out.txt")
    held_out.write_text((MODEL / "held_out.txt").read_text()[:HELD_OUT_TEXT])
    submitted = cli("submit", "--run", "--server", server.address, "--model", MODEL,
                    "--text", MODEL / "calibration.txt", "--samples", samples,
                    "--held-out-text", held_out, "--sparsity", "0.7",
                    "--method", "alps", *flags)
    assert submitted.returncode == 0, submitted.stderr
    return submitted.stdout.strip()


def get_run(client, name):
    return client.jobs.GetRun(prune_api.GetRunRequest(name=name))


@pytest.fixture(scope="module", name="pruned")
def finished_run(server, client):
    """A run that has ended."""
    *_, last = client.watch(submit_run(server, "--label", f"note={HOSTILE}", samples=8))
    assert last.run_terminal.state == job_api.SUCCEEDED
    return last.run_terminal


def job_page(server, name):
    return f"{getattr(server, 'page', server)}#/{name}"


def opened_run(browser, server, name):
    """The page of a run that has ended, once it shows all of it."""
    browser.open(job_page(server, name))
    browser.wait_for_js(WHOLE_RUN)


def opened(browser, server, name):
    """The page of a job with curves: once it shows all of a job that has ended, or the first curve of
    one that goes on."""
    browser.open(job_page(server, name))
    browser.wait_for_js("performance.getEntriesByName('attnprune:first-curve').length > 0")
    if browser.snapshot()["job"]["state"] in ENDED:
        browser.wait_for_js(WHOLE)


def tab_to(browser, wanted, limit=80):
    """Presses Tab until `wanted` has the focus; everything on the way must show its focus."""
    for _ in range(limit):
        browser.press(Keys.TAB)
        style = browser.js("const s = getComputedStyle(document.activeElement);"
                           "return [s.outlineStyle, parseFloat(s.outlineWidth)]")
        assert style[0] != "none" and style[1] >= 2, f"no focus is seen on {browser.focused()!r}"
        if browser.focused() == wanted:
            return
    raise AssertionError(f"{limit} times Tab do not reach {wanted!r}")
