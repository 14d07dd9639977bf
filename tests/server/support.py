"""What the black-box tests of `crank serve` share: a model, a server, raw requests, loads.

The tests hold on a machine that is five times faster or ten times slower, with one core or 64, while
other programs run: they wait for a state (LIMIT only ends what hangs), compare with the same run, and
put loads on the server that nothing finishes meanwhile (endless)."""
import json
import os
import random
import re
import resource
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
LIMIT = 300  # seconds; of anything that ought to take a moment

# Descriptors: as many as this process, and the programs that it starts, may have.
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
CONNECTIONS = 4096 if most == resource.RLIM_INFINITY else min(4096, most - 100)


def environment(more=None):
    """That of this process without what configures `crank serve`."""
    return {**{k: v for k, v in os.environ.items() if not k.startswith("CRANK_")}, **(more or {})}


def model():
    path = os.path.join(FOLDER, "tiny")
    if not os.path.isdir(path):
        subprocess.run([CRANK, "synth", "tinybert-l2", "-o", path], check=True, capture_output=True)
    return path


def free_port():
    """Outside the range that the kernel gives to connections, which could take it in the meantime."""
    for port in random.sample(range(20000, 32000), 1000):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise RuntimeError("no free port")


WORDS = 26 ** 3


def word(i):
    """A token of the models that `crank synth` makes; other words are all one token there, [UNK]."""
    return "w" + chr(97 + i % 26) + chr(97 + i // 26 % 26) + chr(97 + i // 676 % 26) + "a"


def texts(n, words, tag=""):
    """n texts of so many tokens that differ in their first ones, so that none is folded into another."""
    own = zlib.crc32(tag.encode())
    rest = " ".join(word(7 * k) for k in range(words - 4))
    return [f"{word(own % WORDS)} {word(own // WORDS)} {word(i % WORDS)} {word(i // WORDS)} {rest}" for i in range(n)]


# A server that takes a load of any size; that leaves it soon; that shows who waits for the engine, for a
# batch takes longer than the answers to many requests that do not.
PATIENT = ["--cache-mb", "0", "--deadline-ms", "0", "--queue-ms", "3600000", "--max-body", "100000000",
           "--header-timeout-ms", "3600000", "--body-timeout-ms", "3600000", "--idle-timeout-ms", "3600000"]
SHORT_BATCHES = [*PATIENT, "--batch-tokens", "512"]
LONG_BATCHES = [*PATIENT, "--batch-tokens", str(16384 // SLOW), "--batch-ms", "60000"]
ENDLESS = 2500 if SLOW > 1 else 10000  # documents


def endless(tag="", n=ENDLESS, **fields):
    """A request that keeps two threads of any machine busy (7 TFLOP) for far longer than a test looks; it
    ends when its client leaves. For tests of what happens meanwhile, or then."""
    body = {"query": "waaaa", "documents": [text + " a" * 500 for text in texts(n, 4, tag)], **fields}
    return request("POST", "/v2/rerank", json.dumps(body).encode())


class Server:
    """A running server; `with Server("--option", "value") as s`."""

    def __init__(self, *options, env=None, model_options=None):
        arguments = ["--threads", "2", "--device", "cpu", *options]
        arguments = [*(model_options if model_options is not None else ["-m", model()]), *arguments]
        quiet = "none" in options  # then no line says the port
        for attempt in range(10):
            self.start(arguments, free_port() if quiet else 0, env)
            found = [m for line in self.lines if (m := re.search(r"(https?)://(127\.0\.0\.1):(\d+)", line))]
            if found and not quiet:
                self.port, self.url = int(found[0].group(3)), found[0].group(0)
                return
            if quiet and wait_until(lambda: self.process.poll() is not None or self.answers()) and self.process.poll() is None:
                return
            self.process.kill()
            self.process.wait()
            self.thread.join()
            self.process.stderr.close()
            if not any("in use" in line for line in self.lines):
                break
        raise RuntimeError("the server did not start: " + "".join(self.lines))

    def start(self, arguments, port, env):
        self.lines, self.port, self.url = [], port, f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([CRANK, "serve", "--port", str(port), *arguments], stderr=subprocess.PIPE,
                                        env=environment(env))
        started = threading.Event()
        if port != 0:
            started.set()

        def read():
            for line in self.process.stderr:
                self.lines.append(line.decode("utf-8", "replace"))
                if "listening" in self.lines[-1]:
                    started.set()
            started.set()

        self.thread = threading.Thread(target=read, daemon=True)
        self.thread.start()
        started.wait(LIMIT)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        code = self.stop()
        # Sanitizers report what they found, and leaks, with an exit code of their own.
        assert kind is not None or code == 0, (code, "".join(self.lines)[-4000:])

    def answers(self):
        try:
            answer = self.get("/health")
        except OSError:
            return False
        return answer is not None and answer.status == 200

    def term(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self, seconds=LIMIT, term=True):
        if term and self.process.poll() is None:
            self.term()
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.thread.join()
        self.process.stderr.close()
        return code

    def connect(self, timeout=LIMIT):
        s = socket.create_connection(("127.0.0.1", self.port), timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def raw(self, data, timeout=LIMIT):
        """Sends bytes, returns the Answer; None when the server closed without one."""
        with self.connect(timeout) as s:
            try:
                s.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
            return read_answer(s)

    def post(self, path, body, headers=(), timeout=LIMIT):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return self.raw(request("POST", path, body, headers), timeout)

    def get(self, path, headers=(), timeout=LIMIT):
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
    """One answer from a socket, framed by Content-Length; None when the server closed without one, which
    is not the same as silence. closed: the server said it closes."""
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
    except socket.timeout:
        raise AssertionError(f"neither an answer nor an end in {s.gettimeout()} s: {data[:300]}") from None
    except ConnectionResetError:
        return None


def wait_until(check, seconds=LIMIT):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return True
        time.sleep(0.005)
    return False


class Clients:
    """Threads that call step(i, k), k = 0, 1.., until it returns False or the block ends; what one of them
    raises, the block raises."""

    def __init__(self, n, step):
        self.problems, self.stop = [], threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i, step), daemon=True) for i in range(n)]

    def run(self, i, step):
        k = 0
        try:
            while not self.stop.is_set() and step(i, k) is not False:
                k += 1
        except BaseException as problem:
            self.problems.append(problem)

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, kind, *_):
        self.stop.set()
        for t in self.threads:
            t.join(LIMIT)
        if kind is None and self.problems:
            raise self.problems[0]
        assert kind is not None or not any(t.is_alive() for t in self.threads)
