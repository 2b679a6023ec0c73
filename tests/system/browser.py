"""Headless Chromium on the live page, and a proxy that breaks its connections."""
import base64
import json
import os
import pathlib
import re
import threading

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from harness import BIN, LIMIT, Proxy, wait_for

SCREENSHOTS = pathlib.Path(os.environ.get("ATTNPRUNE_SCREENSHOTS", BIN.parent / "screenshots"))
# The sandbox needs rights that root in a container does not have, and /dev/shm may be tiny there.
FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--lang=en-US")

# Runs before the page's own scripts: keeps what went wrong, and every event that the page applied.
RECORDER = """
globalThis.problems = []; globalThis.seen = [];
addEventListener("securitypolicyviolation", (e) =>
  problems.push(`CSP: ${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`));
addEventListener("error", (e) => problems.push(`error: ${e.message} ${e.filename}:${e.lineno}`));
addEventListener("unhandledrejection", (e) => problems.push(`rejection: ${e.reason}`));
document.addEventListener("attnprune:event", (e) => seen.push(e.detail));
"""


class Browser:
    """One Chromium, whose window and colours are the test's choice."""

    def __init__(self):
        self.expected_codes = set()  # HTTP status codes that are no problem
        options = Options()
        for flag in FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
        self.driver.set_script_timeout(120)
        self.cdp("Page.addScriptToEvaluateOnNewDocument", source=RECORDER)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.driver.quit()

    def cdp(self, command, **arguments):
        return self.driver.execute_cdp_cmd(command, arguments)

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def emulate(self, width=1280, height=900, scheme="light", motion="no-preference"):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=False)
        self.cdp("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion}])

    def open(self, address):
        """A fresh load, whatever was open."""
        self.driver.get("about:blank")
        self.driver.get(address)

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0])?.textContent.trim() ?? ''",
                       selector)

    def texts(self, selector):
        return self.js("return [...document.querySelectorAll(arguments[0])]"
                       ".map((node) => node.textContent.trim())", selector)

    def wait_for_text(self, selector, pattern, limit=LIMIT):
        return wait_for(lambda: re.search(pattern, self.text(selector)),
                        f"{pattern!r} in {selector}, which says {self.text(selector)!r}", limit)

    def wait_for_js(self, expression, limit=LIMIT):
        return wait_for(lambda: self.js(f"return {expression}"), expression, limit)

    def snapshot(self):
        """The page's hook (docs/page.md)."""
        return self.js("return attnprune.snapshot()")

    def sequences(self):
        return [int(sequence) for sequence in self.js("return seen.map((e) => e.sequence)")]

    def press(self, key):
        """A key for whatever has the focus."""
        self.driver.switch_to.active_element.send_keys(key)

    def focused(self):
        """Name or text of what has the focus."""
        return self.js("const e = document.activeElement;"
                       "return (e.getAttribute('aria-label') || e.textContent || e.id).trim()")

    def accessible_nodes(self):
        """Of the accessibility tree, what is not ignored: [{role, name, focusable}]."""
        nodes = []
        for node in self.cdp("Accessibility.getFullAXTree")["nodes"]:
            if not node.get("ignored"):
                properties = {entry["name"]: entry["value"].get("value")
                              for entry in node.get("properties", [])}
                nodes.append({"role": node["role"]["value"], "name": node["name"]["value"].strip(),
                              "focusable": bool(properties.get("focusable"))})
        return nodes

    def overflow(self):
        """How many pixels the page is wider than the window."""
        return self.js("return document.documentElement.scrollWidth - innerWidth")

    def shot(self, name, height=None):
        """A picture of the whole page, or of its top, for people to look at."""
        size = self.cdp("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"],
                "scale": 1}
        picture = self.cdp("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        (SCREENSHOTS / f"{name}.png").write_bytes(base64.b64decode(picture["data"]))

    def console(self):
        """What the console was told since the last call, but for connections that broke and answers
        that the test expects."""
        expected = ["net::ERR_", *(f"status of {code}" for code in self.expected_codes)]
        return [entry["message"] for entry in self.driver.get_log("browser")
                if entry["level"] in ("SEVERE", "WARNING")
                and not any(text in entry["message"] for text in expected)]

    def problems(self):
        return self.js("return problems") + self.console()


def contrast_failures(browser):
    """Texts whose contrast with what is behind them is below WCAG's AA, as [[text, ratio]]."""
    return browser.js("""
const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
function behind(node) {
  for (; node; node = node.parentElement) {
    const [r, g, b, a = 1] = parse(getComputedStyle(node).backgroundColor);
    if (a > 0.99) return [r, g, b];
  }
  return [255, 255, 255];
}
const failures = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim(), node = walker.currentNode.parentElement;
  const box = node.getBoundingClientRect();
  if (!text || box.width < 2 || node.closest(":disabled, canvas, option, noscript")) continue;
  const style = getComputedStyle(node);
  const [a, b] = [luminance(parse(style.color)), luminance(behind(node))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  const large = parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700;
  if (ratio < (large ? 3 : 4.5)) failures.push([text, ratio.toFixed(2)]);
}
return failures;""")


class CuttingProxy(Proxy):
    """In front of a page's port: remembers what was asked for, and cuts connections on demand.

    away: it takes no connections. answer: given a request, what to answer in the server's place, or
    nothing.
    """

    def __init__(self, port):
        self.requests = []  # the heads of connections' first requests, as bytes
        self.away = False
        self.answer = lambda request: None
        self.moments = []  # [(event, action)], in order
        self.open = set()
        self.lock = threading.Lock()
        super().__init__(lambda: port)

    @property
    def url(self):
        return f"http://{self.address}/"

    def connect(self):
        if self.away:
            raise ConnectionRefusedError
        return super().connect()

    def copy(self, source, sink, send):
        with self.lock:
            self.open |= {source, sink}
        super().copy(source, sink, send)

    def send_up(self, client, server, data):
        self.requests.append(data)
        if instead := self.answer(data):
            client.sendall(instead)
            raise ConnectionAbortedError
        super().send_up(client, server, data)

    def at_event(self, number, action):
        """Does it as soon as the page has been sent that event or a later one of the first stream that
        has one: before it is sent more, however fast the events come."""
        self.moments.append((number, action))

    def send_down(self, server, client, data):
        super().send_down(server, client, data)
        sent = max(map(int, re.findall(rb"(?m)^id: *(\d+)\r?$", data)), default=0)
        if self.moments and sent >= self.moments[0][0]:
            self.moments.pop(0)[1]()

    def close(self, *ends):
        with self.lock:
            self.open -= set(ends)
        super().close(*ends)

    def cut(self):
        with self.lock:
            ends = list(self.open)
        self.close(*ends)

    def resumed_after(self):
        """The Last-Event-ID of every request that had one."""
        return [int(number) for request in self.requests
                for number in re.findall(rb"(?i)last-event-id: *(\d+)", request)]

    def stop(self):
        self.listener.close()
        self.cut()


def load_cost(browser):
    """Of the open page: bytes moved by address; ms from the navigation on until its files were loaded
    (the event "load") and until the first curve was drawn; ms of the processor that its thread took."""
    metrics = {entry["name"]: entry["value"] for entry in
               browser.cdp("Performance.getMetrics")["metrics"]}
    cost = json.loads(browser.js("""
const entries = ["navigation", "resource"].flatMap((type) => performance.getEntriesByType(type));
const first = performance.getEntriesByName("attnprune:first-curve")[0];
return JSON.stringify({bytes: Object.fromEntries(entries.map((e) =>
  [e.name.replace(/^[a-z]+:\\/\\/[^/]*/, ""), e.transferSize])),
  loaded: entries[0].loadEventStart, firstCurve: first.startTime});"""))
    return {**cost, "cpu": 1000 * metrics["TaskDuration"]}
