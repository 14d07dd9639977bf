"""What the black-box tests of `crank serve` share: a model, a server, raw requests."""
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import zlib

CRANK = os.environ.get("CRANK", os.path.join(os.path.dirname(__file__), "../../build/release/crank"))
_folder = tempfile.TemporaryDirectory(prefix="crank-server-")
FOLDER = _folder.name
SLOW = 4 if os.environ.get("CRANK_SLOW") else 1  # sanitizers


def model():
    path = os.path.join(FOLDER, "tiny")
    if not os.path.isdir(path):
        subprocess.run([CRANK, "synth", "tinybert-l2", "-o", path], check=True, capture_output=True)
    return path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


WORDS = 26 ** 3


def word(i):
    """A token of the models that `crank synth` makes; other words are all one token there, [UNK]."""
    return "w" + chr(97 + i % 26) + chr(97 + i // 26 % 26) + chr(97 + i // 676 % 26) + "a"


def texts(n, words, tag=""):
    """n texts of so many tokens that differ in their first ones, so that none is folded into another."""
    own = zlib.crc32(tag.encode())
    rest = " ".join(word(7 * k) for k in range(words - 4))
    return [f"{word(own % WORDS)} {word(own // WORDS)} {word(i % WORDS)} {word(i // WORDS)} {rest}" for i in range(n)]


# A server that takes a load of any size and is interrupted soon.
PATIENT = ["--cache-mb", "0", "--batch-tokens", "512", "--deadline-ms", "0", "--queue-ms", "3600000", "--max-body", "100000000",
           "--body-timeout-ms", "3600000"]
ENDLESS = 2500 if SLOW > 1 else 10000  # documents


def endless(tag="", **fields):
    """A request that keeps two threads of any machine busy (7 TFLOP) for far longer than a test looks; it
    ends when its client leaves. For tests of what happens meanwhile, or then."""
    body = {"query": "waaaa", "documents": [text + " a" * 500 for text in texts(ENDLESS, 4, tag)], **fields}
    return request("POST", "/v2/rerank", json.dumps(body).encode())


class Server:
    """A running server; `with Server("--option", "value") as s`."""

    def __init__(self, *options, env=None, model_options=None):
        self.lines = []
        quiet = "none" in options  # then no line says the port
        port = free_port() if quiet else 0
        arguments = [CRANK, "serve", *(model_options if model_options is not None else ["-m", model()]),
                     "--port", str(port), "--threads", "2", "--device", "cpu", *options]
        self.process = subprocess.Popen(arguments, stderr=subprocess.PIPE, env={**os.environ, **(env or {})})
        started = threading.Event()

        def read():
            for line in self.process.stderr:
                self.lines.append(line.decode("utf-8", "replace"))
                if "listening" in self.lines[-1]:
                    started.set()
            started.set()

        self.thread = threading.Thread(target=read, daemon=True)
        self.thread.start()
        if quiet:
            self.port, self.url = port, f"http://127.0.0.1:{port}"
            if not wait_until(lambda: self.process.poll() is not None or self.answers(), 60) or self.process.poll() is not None:
                self.process.kill()
                raise RuntimeError("the server did not start: " + "".join(self.lines))
            return
        started.wait(60)
        found = [re.search(r"(https?)://(127\.0\.0\.1):(\d+)", line) for line in self.lines]
        found = [m for m in found if m]
        if not found:
            self.process.kill()
            raise RuntimeError("the server did not start: " + "".join(self.lines))
        self.port = int(found[0].group(3))
        self.url = found[0].group(0)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        code = self.stop()
        # Sanitizers report what they found, and leaks, with an exit code of their own.
        assert kind is not None or code == 0, (code, "".join(self.lines)[-4000:])

    def answers(self):
        try:
            return self.get("/health").status == 200
        except (OSError, AttributeError):
            return False

    def term(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self, seconds=60, term=True):
        if term and self.process.poll() is None:
            self.term()
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.thread.join(10)
        self.process.stderr.close()
        return code

    def connect(self, timeout=20):
        s = socket.create_connection(("127.0.0.1", self.port), timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def raw(self, data, timeout=20):
        """Sends bytes, returns the Answer; None when the server closed without one."""
        with self.connect(timeout) as s:
            try:
                s.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
            return read_answer(s)

    def post(self, path, body, headers=(), timeout=30):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return self.raw(request("POST", path, body, headers), timeout)

    def get(self, path, headers=(), timeout=20):
        return self.raw(request("GET", path, None, headers), timeout)

    def metric(self, name):
        for line in self.get("/metrics").text.splitlines():
            if line.startswith(name + " "):
                return float(line.rsplit(" ", 1)[1])
        raise KeyError(name)


def request(method, path, body=None, headers=(), close=False):
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


class Answer:
    def __init__(self, status, headers, body, closed):
        self.status, self.headers, self.body, self.closed = status, headers, body, closed

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)


def read_answer(s):
    """One answer from a socket, framed by Content-Length. closed: the server said it closes."""
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            piece = s.recv(65536)
            if not piece:
                return None
            data += piece
            if data.startswith(b"HTTP/1.1 100") and b"\r\n\r\n" in data:
                data = data.split(b"\r\n\r\n", 1)[1]
        head, body = data.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        while len(body) < length:
            piece = s.recv(65536)
            if not piece:
                break
            body += piece
        return Answer(int(lines[0].split()[1]), headers, body[:length], headers.get("connection") == "close")
    except (ConnectionResetError, socket.timeout):
        return None


def wait_until(check, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return True
        time.sleep(0.005)
    return False
