"""The live page through broken connections, by keyboard, in every size and colour, over long jobs."""
import json
import re
import subprocess

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browser import contrast_failures, CuttingProxy
from harness import BIN, Client, layer_job, submit, wait_for
from page_fixtures import (  # pylint: disable=unused-import
    clean_browser, finished_job, finished_run, its_client, one_chromium, page_server,
    running_job, COMPARED, ENDLESS, PageServer, WHOLE, job_page, opened, opened_run, submit_run, tab_to)
from attnprune.v1 import job_pb2 as job_api
from attnprune.v1 import prune_service_pb2 as prune_api


# --- Broken connections ---


def watch_json(server, name):
    """`attnprune watch --json` of a job, from its first event."""
    command = [BIN / "attnprune", "watch", name, "--json", "--server", server.address]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL)


def sequences_of(events, progress):
    """Of events as JSON: of progress alone, or of all the others. Heartbeats have none."""
    return [int(event["sequence"]) for event in events
            if ("progress" in event) == progress and event["sequence"] != "0"]


def assert_nothing_was_missed(browser, log, resumed_after):
    """The page's events against the job's whole log, which is short enough not to be thinned out.

    Who follows live may be sent less progress than there was (docs/server.md: it is coalesced), a
    command line just as a page. All the rest must be there, and after each reconnect exactly what came
    next.
    """
    seen = browser.sequences()
    assert seen == sorted(set(seen)), "each event once, in order"
    assert sequences_of(browser.js("return seen"), False) == sequences_of(log, False)
    numbers = sorted(sequences_of(log, False) + sequences_of(log, True))
    assert set(seen) <= set(numbers)
    for last in resumed_after:
        following = [number for number in numbers if number > last][:1]
        assert [number for number in seen if number > last][:1] == following, f"after {last}"
    print(f"the page was shown {len(seen)} of {len(numbers)} events, "
          f"reconnected after {resumed_after}")


def test_a_reconnect_misses_no_event_and_shows_none_twice(browser, server, client):
    name = submit(client, methods=(("gd", {"steps": 900}),)).name
    proxy = CuttingProxy(server.http_port)
    for event in (100, 300):
        proxy.at_event(event, proxy.cut)
    with watch_json(server, name) as watch:
        browser.open(job_page(proxy.url, name))
        wait_for(lambda: len(proxy.resumed_after()) >= 2, "it comes back twice")
        browser.wait_for_js(WHOLE)
        assert browser.text(".badge") == "succeeded"
        watched = [json.loads(line) for line in watch.stdout]
    resumed_after = proxy.resumed_after()
    proxy.stop()
    assert all(last > 0 for last in resumed_after)
    with watch_json(server, name) as again:  # now it is all there at once
        log = [json.loads(line) for line in again.stdout]
    assert sequences_of(watched, False) == sequences_of(log, False)
    assert_nothing_was_missed(browser, log, resumed_after)


def test_a_server_that_was_killed_is_missed_and_found_again(browser, tmp_path):
    with PageServer(tmp_path / "data") as server:
        with Client(server.address) as client:
            name = submit(client, methods=(("gd", {"steps": 700}),)).name
            proxy = CuttingProxy(server.http_port)
            proxy.at_event(50, server.kill)
            browser.open(job_page(proxy.url, name))
            browser.wait_for_text("#connection", "reconnecting")
            last = browser.sequences()[-1]
            wait_for(browser.find("#away").is_displayed, "the banner is there")
            browser.wait_for_text("#announcer", "does not answer")
            server.start()
            wait_for(lambda: not browser.find("#away").is_displayed(), "the server is found again")
            assert client.finish(name).state == job_api.SUCCEEDED
            browser.wait_for_js(WHOLE)
            assert browser.text(".badge") == "succeeded"
            proxy.stop()
            with watch_json(server, name) as watch:
                log = [json.loads(line) for line in watch.stdout]
    assert_nothing_was_missed(browser, log, [last])


def compacted(oldest):
    """Answers who asks for events before `oldest` as the server does that no longer has them.

    It drops any but progress from 10,000 on; web_test holds the server's answer to be this one.
    """
    body = json.dumps({"error": {
        "code": 400, "status": "OUT_OF_RANGE", "message": "history was dropped",
        "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo",
                     "reason": "HISTORY_COMPACTED",
                     "metadata": {"oldest_sequence": str(oldest)}}]}}).encode()
    head = (f"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n").encode()

    def answer(request):
        if not re.match(rb"GET /api/v1/jobs/\w+/events", request):
            return None
        places = re.findall(rb"(?i)last-event-id: *(\d+)", request) or re.findall(
            rb"afterSequence=(\d+)", request)
        return head + body if int((places or [0])[0]) < oldest - 1 else None
    return answer


def test_a_log_that_was_compacted_meanwhile_is_gone_on_with(browser, server, client, running):
    browser.expected_codes = {400}
    proxy = CuttingProxy(server.http_port)
    browser.open(job_page(proxy.url, running))
    wait_for(lambda: len(browser.sequences()) > 5, "the page follows")
    proxy.away = True
    proxy.cut()
    browser.wait_for_text("#connection", "reconnecting")
    last = browser.sequences()[-1]
    oldest = last + 50
    next(event for event in client.watch(running) if event.sequence > oldest)
    proxy.answer = compacted(oldest)
    proxy.away = False
    wait_for(lambda: browser.sequences()[-1] > oldest, "the page follows again")
    browser.wait_for_text("#connection", "live")
    missing = [number for number in browser.sequences() if last < number < oldest]
    assert missing == [], "the server has them no more"
    browser.wait_for_text("[data-part=notices]",
                          f"events {last + 1} to {oldest - 1} are no longer kept by the server")
    client.cancel(running)
    browser.wait_for_text(".badge", "cancelled")
    proxy.stop()


def test_a_page_of_a_compacted_log_shows_what_is_left_of_it(browser, server, compared):
    browser.expected_codes = {400}
    proxy = CuttingProxy(server.http_port)
    proxy.answer = compacted(5)
    browser.open(job_page(proxy.url, compared.name))
    browser.wait_for_text(".badge", "succeeded")
    browser.wait_for_js("document.querySelectorAll('[data-part=resultRows] tr').length === "
                        f"{len(COMPARED)}")
    wait_for(lambda: browser.sequences()[-1:] == [browser.snapshot()["lastSequence"]], "the end")
    assert browser.sequences()[0] >= 5
    browser.wait_for_text("#connection", "connected")
    proxy.stop()


def delete(client, name):
    """Of a job or a run that has not ended."""
    if name.startswith("runs/"):
        client.jobs.CancelRun(prune_api.CancelRunRequest(name=name))
        client.finish(name)
        client.jobs.DeleteRun(prune_api.DeleteRunRequest(name=name))
    else:
        client.cancel(name)
        client.finish(name)
        client.jobs.DeleteJob(prune_api.DeleteJobRequest(name=name))


@pytest.mark.parametrize("word", ["job", "run"])
def test_what_is_deleted_meanwhile_is_said_to_be_gone(browser, server, client, word):
    name = submit_run(server) if word == "run" else submit(client, methods=ENDLESS).name
    browser.expected_codes = {404}
    proxy = CuttingProxy(server.http_port)
    browser.open(job_page(proxy.url, name))
    wait_for(lambda: len(browser.sequences()) > 5, "the page follows")
    proxy.away = True
    proxy.cut()
    browser.wait_for_text("#connection", "reconnecting")
    delete(client, name)
    proxy.away = False
    browser.wait_for_text("[data-part=trouble]", f"no {word} .* any more")
    browser.wait_for_text("#connection", "connected")
    wait_for(lambda: not browser.find("[data-part=cancel]").is_displayed(), "nothing to cancel")
    asked = len(proxy.requests)
    browser.js("document.dispatchEvent(new Event('visibilitychange'))")
    assert [request for request in proxy.requests[asked:] if b"/events" in request] == []
    proxy.stop()


def test_the_queue_too_says_that_the_server_is_away(browser, tmp_path):
    with PageServer(tmp_path / "data") as server:
        browser.open(server.page)
        browser.wait_for_text("#connection", "connected")
        assert server.terminate() == 0
        browser.wait_for_text("#connection", "reconnecting")
        server.start()
        browser.wait_for_text("#connection", "connected")


# --- Keyboard, screen readers, sizes, colours ---


def test_a_job_is_cancelled_by_keyboard_alone(browser, server, client, running):
    browser.open(server.page)
    job = running.removeprefix("jobs/")
    browser.wait_for_text(".queue tbody", job)
    tab_to(browser, "Skip to the content")
    browser.press(Keys.ENTER)
    browser.wait_for_js("document.activeElement.id === 'main'")
    tab_to(browser, job)
    browser.press(Keys.ENTER)
    browser.wait_for_text("h1", job)
    wait_for(lambda: browser.focused() == job, "the new view's heading has the focus")
    browser.wait_for_text(".badge", "running")
    tab_to(browser, "Cancel…")
    browser.press(Keys.ENTER)
    wait_for(lambda: browser.focused() == "Keep it", "the dialog is open")
    browser.press(Keys.ESCAPE)
    wait_for(lambda: browser.focused() == "Cancel…", "the dialog is closed")
    assert not client.get(running).cancel_requested
    browser.press(Keys.ENTER)
    wait_for(lambda: browser.focused() == "Keep it", "the dialog is open again")
    tab_to(browser, "Cancel the job", limit=3)
    browser.press(Keys.ENTER)
    browser.wait_for_text(".badge", "cancelled")
    assert client.finish(running).state == job_api.CANCELLED
    browser.wait_for_text("#announcer", "Job cancelled")
    browser.wait_for_js(WHOLE)
    assert not browser.find("[data-part=cancel]").is_displayed()


def test_arrow_keys_read_the_curve(browser, server, compared):
    opened(browser, server, compared.name)
    browser.js("document.querySelector('[data-part=errorChart]').focus()")
    browser.press(Keys.END)
    last = browser.text("[data-part=errorChart] .chart-tip")
    browser.press(Keys.HOME)
    first = browser.text("[data-part=errorChart] .chart-tip")
    assert "step 300" in last and "joint" in last
    assert first.startswith("step 1") and first != last
    browser.press(Keys.ESCAPE)
    assert not browser.find("[data-part=errorChart] .chart-tip").is_displayed()


def test_states_are_announced_and_steps_are_not(browser, server, client, running):
    opened(browser, server, running)
    browser.js("globalThis.told = []; new MutationObserver(() => told.push("
               "document.getElementById('announcer').textContent)).observe("
               "document.getElementById('announcer'), {childList: true})")
    seen = len(browser.sequences())
    wait_for(lambda: len(browser.sequences()) > seen + 100, "a hundred steps")
    client.cancel(running)
    wait_for(lambda: "Job cancelled." in browser.js("return told"), "the end is announced")
    assert len(browser.js("return told")) <= 2


NAMED_ROLES = {"button", "link", "combobox", "checkbox", "searchbox", "textbox", "img", "image",
               "progressbar", "region", "dialog", "ProgressIndicator"}


@pytest.mark.parametrize("view", ["queue", "job", "run"])
def test_everything_has_a_name_and_a_place(browser, server, compared, pruned, view):
    if view == "queue":
        browser.open(server.page)
        browser.wait_for_text(".queue tbody", "succeeded")
    elif view == "run":
        opened_run(browser, server, pruned.name)
    else:
        opened(browser, server, compared.name)
        browser.wait_for_js("document.querySelectorAll('.pictures canvas').length === 2")
    nodes = browser.accessible_nodes()
    nameless = [node for node in nodes if not node["name"] and
                (node["role"] in NAMED_ROLES or node["focusable"]) and
                node["role"] not in ("main", "RootWebArea")]
    assert nameless == []
    assert sum(node["role"] == "main" for node in nodes) == 1
    levels = browser.js("return [...document.querySelectorAll('h1, h2, h3')]"
                        ".filter((node) => node.checkVisibility())"
                        ".map((node) => Number(node.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:])), levels
    assert browser.js("return [...document.querySelectorAll('main th:not([scope])')].length") == 0
    assert browser.js("return document.documentElement.lang") == "en"
    assert browser.js("const ids = [...document.querySelectorAll('[id]')].map((node) => node.id);"
                      "return ids.length - new Set(ids).size") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_are_readable(browser, server, compared, pruned, scheme):
    browser.emulate(scheme=scheme)
    browser.open(server.page)
    browser.wait_for_text(".queue tbody", "succeeded")
    for view in ("queue", "run", "job"):
        if view == "run":
            opened_run(browser, server, pruned.name)
            browser.shot(f"run-{scheme}")
        elif view == "job":
            opened(browser, server, compared.name)
        background = browser.js("return getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(part) for part in background[4:-1].split(",")) / 3
        assert brightness > 200 if scheme == "light" else brightness < 60
        assert contrast_failures(browser) == []
    browser.wait_for_js("document.querySelectorAll('.pictures canvas').length === 2")
    browser.shot(f"job-{scheme}")


def test_the_scheme_can_be_chosen_and_is_remembered(browser, server, compared):
    opened(browser, server, compared.name)
    body = "return getComputedStyle(document.body).backgroundColor"
    picture = "return document.querySelector('[data-part=errorChart] canvas').toDataURL()"
    light, curves = browser.js(body), browser.js(picture)
    browser.find("#theme").click()
    assert browser.js(body) != light
    wait_for(lambda: browser.js(picture) != curves, "the chart takes the other colours")
    assert browser.find("#theme").get_attribute("aria-pressed") == "true"
    dark = browser.js(body)
    opened(browser, server, compared.name)
    assert browser.js(body) == dark


def test_360_pixels_are_wide_enough(browser, server, compared, pruned, running):
    browser.emulate(width=360, height=740)
    browser.open(server.page)
    browser.wait_for_text(".queue tbody", "running")
    assert browser.overflow() == 0
    cut_off = "return [...document.querySelectorAll('.card')].filter((card) => " \
              "card.scrollWidth > card.clientWidth).length"
    assert browser.js(cut_off) == 0
    browser.shot("queue-360")
    opened_run(browser, server, pruned.name)
    assert browser.overflow() == 0
    browser.shot("run-360")
    for name, job, text in (("job", compared.name, "succeeded"), ("running", running, "running")):
        opened(browser, server, job)
        assert browser.text(".badge") == text
        assert browser.overflow() == 0, name
        browser.shot(f"{name}-360")
    browser.wait_for_text(".methods .steps", "running")
    browser.find("[data-part=cancel]").click()
    assert browser.find("#cancel-dialog").is_displayed()
    assert browser.overflow() == 0
    browser.press(Keys.ESCAPE)


def test_many_heads_fit_too(browser, server, client):
    job, tensors = layer_job(methods=(("magnitude", {}), ("gd", {"steps": 20})))
    job.problem.projections.heads, job.problem.projections.kv_heads = 32, 16
    client.upload_missing(tensors)
    job = client.finish(client.create(job).name)
    browser.emulate(width=360, height=740)
    opened(browser, server, job.name)
    browser.wait_for_js("document.querySelectorAll('.heat tbody tr').length === 2")
    assert browser.overflow() == 0
    figures = [float(text) for text in browser.texts(".heat tbody tr:first-child td")]
    best = min(job.results, key=lambda result: result.relative_error.held_out)
    assert figures == pytest.approx(best.per_head.held_out, rel=0.06)
    browser.shot("heads-360")


def test_who_wants_no_motion_gets_none(browser, server, running):
    opened(browser, server, running)
    browser.wait_for_text("#connection", "live")
    animation = "return getComputedStyle(document.querySelector('#connection i')).animationName"
    assert browser.js(animation) == "pulse"
    browser.emulate(motion="reduce")
    assert browser.js(animation) == "none"


# --- Long jobs ---


def test_a_million_steps_keep_a_bounded_curve(browser, server):
    browser.open(server.page)
    kept = browser.driver.execute_async_script("""
const done = arguments[0];
import("./js/job_model.js").then(({ JobModel }) => {
  const model = new JobModel({ name: "jobs/long", state: "RUNNING" });
  const times = [performance.now()];
  for (let step = 1; step <= 1e6; ++step) {
    if (step % 1e5 === 0) times.push(performance.now());
    model.apply({ sequence: String(step), progress: { method: "gd", step, steps: 1e6,
      attentionLoss: 1 / step, softRelativeError: 0, gradientNorm: 0, elapsedSeconds: step / 1000,
      remainingSeconds: 0, ...(step % 1000 === 0 ? { calibrationError: 1 / step } : {}) } });
  }
  const { losses, errors, recent, rate } = model.run("gd");
  const steps = losses.points.map(([step]) => step);
  done({ ms: times.slice(1).map((time, i) => time - times[i]), losses: steps.length, errors: errors.points.length,
    recent: recent.length, rate, first: steps[0], last: steps.at(-1),
    gap: Math.max(...steps.slice(1).map((step, i) => step - steps[i])) });
}).catch((error) => done(String(error)));""")
    print(kept)
    assert kept["losses"] <= 1000 and kept["errors"] <= 1000 and kept["recent"] < 50
    assert kept["first"] == 1 and kept["last"] == 1_000_000
    assert kept["gap"] <= 8192  # no part of the curve is lost
    assert kept["rate"] == pytest.approx(1000, rel=0.01)
    first, later = kept["ms"][:3], kept["ms"][3:]
    assert min(later) < 4 * min(first), "a step costs no more for those before it"


def test_steps_taken_again_after_a_checkpoint_replace_the_first_ones(browser, server):
    browser.open(server.page)
    points = browser.driver.execute_async_script("""
const done = arguments[0];
import("./js/series.js").then(({ Series }) => {
  const series = new Series(100);
  for (const step of [1, 2, 3, 4, 5, 3, 4]) series.add([step, step * 10 + series.points.length]);
  done(series.points);
}).catch((error) => done(String(error)));""")
    assert points == [[1, 10], [2, 21], [3, 35], [4, 43]]


def test_every_module_is_asked_for_at_once(browser, server):
    """index.html preloads what main.js needs: one that is forgotten costs a round trip."""
    browser.open(server.page)
    browser.wait_for_text("h1", "Queue")
    preloaded = browser.js("return [...document.querySelectorAll("
                           "'link[rel=modulepreload], script')].map((node) => "
                           "new URL(node.href || node.src).pathname).sort()")
    loaded = browser.js("return performance.getEntriesByType('resource').map((e) => "
                        "new URL(e.name).pathname).filter((path) => path.endsWith('.js')).sort()")
    assert preloaded == sorted(set(loaded))
    assert browser.driver.find_elements(By.CSS_SELECTOR, "style, [onclick]") == []
