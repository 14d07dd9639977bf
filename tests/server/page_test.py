"""The page at /, in a headless Chromium that is driven through its debugging pipe (no other package is
needed). Skipped, and counted, where no Chromium is installed. CRANK_PAGE_PNG=FILE keeps a picture.

    CRANK_PAGE_PNG=server/page.png CRANK_PAGE_MODEL=MODEL CRANK=build/release/crank python3 tests/server/page_test.py"""
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(__file__))
from support import LIMIT, Clients, Server, model

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


class Chromium:
    """The DevTools protocol over two pipes: JSON messages, each ended by a NUL."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="crank-chromium-", ignore_cleanup_errors=True)
        to_read, self.to = os.pipe()
        self.back, to_write = os.pipe()

        def place():  # the browser reads from 3 and writes to 4
            os.dup2(to_read, 103)
            os.dup2(to_write, 104)
            os.dup2(103, 3)
            os.dup2(104, 4)

        self.process = subprocess.Popen(
            [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
             "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
             "--user-data-dir=" + self.folder.name, "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=place, close_fds=False)
        os.close(to_read)
        os.close(to_write)
        self.n, self.rest, self.events = 0, b"", []
        target = self.call("Target.createTarget", {"url": "about:blank"}, None)["targetId"]
        self.session = None
        self.session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]

    def read(self):
        while b"\0" not in self.rest:
            piece = os.read(self.back, 1 << 16)
            if not piece:
                raise RuntimeError("the browser ended")
            self.rest += piece
        line, self.rest = self.rest.split(b"\0", 1)
        return json.loads(line)

    def call(self, method, parameters=None, session=True):
        self.n += 1
        message = {"id": self.n, "method": method, "params": parameters or {}}
        if session and self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            got = self.read()
            if got.get("id") == self.n:
                if "error" in got:
                    raise RuntimeError(f"{method}: {got['error']}")
                return got["result"]
            self.events.append(got)

    def value(self, expression):
        result = self.call("Runtime.evaluate", {"expression": expression, "returnByValue": True, "awaitPromise": True})
        if "exceptionDetails" in result:
            raise RuntimeError(expression + ": " + str(result["exceptionDetails"]))
        return result["result"].get("value")

    def wait_for(self, expression, seconds=LIMIT):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.value(expression)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError("never true: " + expression)

    def named(self, method):
        return [event["params"] for event in self.events if event.get("method") == method]

    def close(self):
        os.close(self.to)
        os.close(self.back)
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()


class Page(unittest.TestCase):
    def setUp(self):
        if BROWSER is None:
            print("SKIPPED: no Chromium is installed", flush=True)
            self.skipTest("no Chromium")
        self.server = Server(model_options=["-m", os.environ.get("CRANK_PAGE_MODEL", model())])
        self.addCleanup(self.server.stop)
        self.browser = Chromium()
        self.addCleanup(self.browser.close)

    def open(self, width, height, dark=False):
        b = self.browser
        for domain in ("Page", "Runtime", "Network", "Log"):
            b.call(domain + ".enable")
        b.call("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
        b.call("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
        b.call("Page.navigate", {"url": self.server.url + "/"})
        b.wait_for("document.readyState === 'complete' && document.querySelectorAll('#results li').length > 0")

    def type(self, selector, text):
        self.browser.value(f"document.querySelector({selector!r}).focus(), document.querySelector({selector!r}).select(), 1")
        self.browser.call("Input.insertText", {"text": text})

    def load(self):
        """Traffic while the block runs, so that the charts have something to draw."""
        def step(_, n):
            texts = [f"{n} {i} the sea rises and falls with the moon" for i in range(4 + 12 * (n // 20 % 4))]
            self.server.post("/rerank", {"query": f"tides {n}", "texts": texts})
            time.sleep(0.02)
        return Clients(2, step)

    def test_page(self):
        b = self.browser
        self.open(1280, 900)
        first = b.value("[...document.querySelectorAll('#results .text')].map(e => e.textContent)")
        self.assertEqual(len(first), b.value("document.querySelector('#documents').value.trim().split('\\n').length"))
        # Another query, other documents, by keyboard and mouse.
        self.type("#documents", "waaaa wbaaa\nthe moon pulls <b>the sea</b>\n\nwcaaa 'quoted'")
        self.type("#query", "moon & \"sea\"")
        box = b.value("(r => ({x: r.x + r.width / 2, y: r.y + r.height / 2}))(document.querySelector('#run').getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            b.call("Input.dispatchMouseEvent", {"type": kind, "button": "left", "clickCount": 1, **box})
        b.wait_for("[...document.querySelectorAll('#results .text')].some(e => e.textContent.includes('<b>'))")
        rows = b.value("[...document.querySelectorAll('#results li')].map(e => [e.querySelector('.text').textContent,"
                       " Number(e.querySelector('.score').textContent)])")
        self.assertEqual(len(rows), 3)
        expected = self.server.post("/rerank", {"query": 'moon & "sea"', "texts": [
            "waaaa wbaaa", "the moon pulls <b>the sea</b>", "wcaaa 'quoted'"], "return_text": True}).json
        self.assertEqual([text for text, _ in rows], [r["text"] for r in expected])
        for (_, shown), r in zip(rows, expected):
            self.assertAlmostEqual(shown, r["score"], delta=1e-4 * max(1, abs(r["score"])))
        timings = b.value("document.querySelector('#timings').textContent")
        for stage in ("tokenize", "queue", "compute", "total"):
            self.assertIn(stage, timings)
        # The command that is shown gives the same.
        command = b.value("document.querySelector('#curl').textContent")
        if shutil.which("curl"):
            done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=LIMIT)
            self.assertEqual(json.loads(done.stdout), [{k: v for k, v in r.items() if k != "text"} for r in expected])
        # What goes wrong is said.
        self.type("#documents", " ")
        b.value("document.querySelector('#run').click(), 1")
        b.wait_for("document.querySelector('#message').textContent.length > 0")
        # Charts: something is drawn once there were requests between two scrapes.
        with self.load():
            for name in ("latency", "rate", "batch"):
                b.wait_for(f"(c => c.getContext('2d').getImageData(0, 20, c.width, c.height - 20).data.some(v => v))"
                           f"(document.querySelector('#{name}'))")
        # Nothing from elsewhere, nothing in the console but the refused request.
        urls = {p["request"]["url"] for p in b.named("Network.requestWillBeSent")}
        self.assertGreater(len(urls), 3)
        self.assertEqual([u for u in urls if not u.startswith((self.server.url + "/", "data:", "about:"))], [])
        self.assertEqual(b.named("Runtime.exceptionThrown"), [])

    def test_narrow_and_dark(self):
        for dark in (False, True):
            self.open(390, 844, dark)
            self.assertLessEqual(self.browser.value("document.documentElement.scrollWidth"), 390)

    def test_picture(self):
        path = os.environ.get("CRANK_PAGE_PNG")
        if not path:
            return
        self.open(1180, 990, os.environ.get("CRANK_PAGE_DARK") == "1")
        with self.load():
            time.sleep(float(os.environ.get("CRANK_PAGE_SECONDS", "25")))
        self.type("#query", "why is there high water twice a day?")
        self.browser.value("document.querySelector('#run').click(), 1")
        self.browser.value("document.activeElement.blur(), 1")
        time.sleep(1)
        data = base64.b64decode(self.browser.call("Page.captureScreenshot", {"format": "png"})["data"])
        with open(path, "wb") as f:
            f.write(data)
        print(f"    {path}: {len(data)} bytes", flush=True)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad - len(result.skipped)} passed, {bad} failed, {len(result.skipped)} skipped", flush=True)
    sys.exit(1 if bad else 0)
