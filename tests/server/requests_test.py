"""Every row of the table of faults, against the real program through raw sockets."""
import http.client
import json
import math
import os
import re
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(__file__))
from support import (CONNECTIONS, CRANK, ENDLESS, FOLDER, LIMIT, LONG_BATCHES, SHORT_BATCHES, Clients, Server, endless,
                     environment, model, read_answer, request, texts, wait_until)

ASK = {"query": "how do tides work", "texts": ["tides follow the moon", "bread", "the sea rises twice a day"]}
ALL_PATHS = ["/rerank", "/reranking", "/v1/rerank", "/v2/rerank"]


def ask_for(n, words, tag):
    return {"query": "waaaa", "texts": texts(n, words, tag)}


def expect(test, answer, status):
    test.assertIsNotNone(answer, "no answer")
    test.assertEqual(answer.status, status, answer.body[:300])
    return answer


class Requests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--max-documents", "500", "--queue-ms", "3600000", "--deadline-ms", "0", "--header-timeout-ms", "3600000",
                            "--body-timeout-ms", "3600000", "--idle-timeout-ms", "3600000", "--max-body", "300000")

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        assert code == 0, code

    def expect(self, answer, status):
        return expect(self, answer, status)

    # ---- bodies ----

    def test_bad_json_is_400_with_the_byte(self):
        bad = [(b'{"query":"q","texts":["a",]}', 26), (b'{"query":"q","texts":["\xff"]}', 23),
               (b'{"query":"q","texts":["\\ud800"]}', 23), (b'{"query":"q","texts":["a"]} x', 28),
               (b'{"query":"q","texts":["a"],"query":"r"}', 27), (b"", 0), (b"{", 1), (b'{"query":01}', 10),
               (b'{"query":"q","texts":["\x01"]}', 23), (b'{"query":1e999}', 9),
               (b'{"query":"q","x":' + b"[" * 70 + b"]" * 70 + b"}", 80)]
        for body, at in bad:
            answer = self.expect(self.server.post("/rerank", body), 400)
            self.assertIn(f"byte {at}:", answer.json["error"], body)
            self.assertEqual(answer.json["error_type"], "Validation")

    def test_whole_numbers_of_any_length_are_json(self):
        for number in ("18446744073709551616", "-9223372036854775809", "9" * 300, "-12345678901234567890123"):
            body = f'{{"query": "q 1", "texts": ["a, 99999999999999999999"], "x": [{number}], "return_text": true}}'
            self.assertEqual(self.expect(self.server.post("/rerank", body.encode()), 200).json[0]["text"],
                             "a, 99999999999999999999")
            self.assertIn("top_n", self.expect(self.server.post(
                "/v2/rerank", f'{{"query": "q", "documents": ["a"], "top_n": {number}}}'.encode()), 400).json["message"])
        for number in ("012345678901234567890123", "9" * 400, "1.e99999999999999999999", "--99999999999999999999", "99999999999999999999x"):
            body = f'{{"query": "q", "texts": ["a"], "x": {number}}}'
            self.assertIn("byte ", self.expect(self.server.post("/rerank", body.encode()), 400).json["error"], number)

    def test_depth_64_is_fine(self):
        body = b'{"query":"q","texts":["a"],"x":' + b"[" * 63 + b"]" * 63 + b"}"
        self.expect(self.server.post("/rerank", body), 200)

    def test_wrong_type_is_422_for_tei_and_400_for_others(self):
        for body in [{"query": 1, "texts": ["a"]}, {"texts": ["a"]}, {"query": "q", "texts": "a"},
                     {"query": "q", "texts": [1]}, {"query": "q", "texts": ["a"], "raw_scores": 1}]:
            self.assertEqual(self.expect(self.server.post("/rerank", body), 422).json["error_type"], "Validation")
        for path, body in [("/v2/rerank", {"query": 1, "documents": ["a"]}), ("/v2/rerank", {"query": "q"}),
                           ("/v1/rerank", {"query": "q", "documents": [[]]}), ("/v1/ranking", {"query": "q"}),
                           ("/score", {"text_1": "a"}), ("/v2/rerank", {"query": "q", "documents": ["a"], "top_n": "1"})]:
            self.expect(self.server.post(path, body), 400)
        self.expect(self.server.post("/rerank", b"[1]"), 422)

    def test_null_is_absent(self):
        body = {**ASK, "truncate": None, "raw_scores": None, "return_text": None, "model": None}
        self.assertEqual(self.expect(self.server.post("/rerank", body), 200).json,
                         self.server.post("/rerank", ASK).json)

    def test_no_documents_is_400_empty(self):
        answer = self.expect(self.server.post("/rerank", {"query": "q", "texts": []}), 400)
        self.assertEqual(answer.json["error_type"], "Empty")
        self.expect(self.server.post("/v2/rerank", {"query": "q", "documents": []}), 400)

    def test_odd_texts_are_scored(self):
        texts = ["", " ", "\0", "a" * 100000, "same", "same", "\u00e9\U0001F600", "[SEP]"]
        results = self.expect(self.server.post("/rerank", {"query": "", "texts": texts}), 200).json
        score = {r["index"]: r["score"] for r in results}
        self.assertEqual(len(score), len(texts))
        self.assertEqual(score[4], score[5])
        self.assertTrue(all(math.isfinite(s) for s in score.values()))

    def test_too_many_documents(self):
        self.expect(self.server.post("/rerank", {"query": "q", "texts": ["a"] * 501}), 413)
        self.expect(self.server.post("/v2/rerank", {"query": "q", "documents": ["a"] * 501}), 400)
        self.expect(self.server.post("/rerank", {"query": "q", "texts": ["a"] * 500}), 200)

    def test_long_text_is_cut_or_refused(self):
        long = {"query": "q", "texts": ["word " * 3000]}
        self.expect(self.server.post("/rerank", long), 200)
        self.expect(self.server.post("/rerank", {**long, "truncate": True}), 200)
        self.assertEqual(self.expect(self.server.post("/rerank", {**long, "truncate": False}), 413)
                         .json["error_type"], "Validation")
        nim = {"model": "m", "query": {"text": "q"}, "passages": [{"text": "word " * 3000}]}
        self.expect(self.server.post("/v1/ranking", {**nim, "truncate": "NONE"}), 400)
        self.expect(self.server.post("/v1/ranking", {**nim, "truncate": "END"}), 200)

    def test_body_over_the_limit_by_length(self):
        answer = self.expect(self.server.raw(request("POST", "/rerank", None, ["Content-Length: 300001"])), 413)
        self.assertTrue(answer.closed)
        answer = self.server.raw(request("POST", "/rerank", None, ["Content-Length: 300001", "Expect: 100-continue"]))
        self.expect(answer, 413)

    def test_body_over_the_limit_in_chunks(self):
        with self.server.connect() as s:
            s.sendall(request("POST", "/rerank", None, ["Transfer-Encoding: chunked"]))
            chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
            try:
                for _ in range(6):
                    s.sendall(chunk)
            except OSError:
                pass
            self.expect(read_answer(s), 413)

    def test_chunked_body_is_read(self):
        body = json.dumps(ASK).encode()
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 7]), body[i:i + 7]) for i in range(0, len(body), 7))
        answer = self.server.raw(request("POST", "/rerank", None, ["Transfer-Encoding: chunked"]) + chunks + b"0\r\n\r\n")
        self.assertEqual(self.expect(answer, 200).json, self.server.post("/rerank", ASK).json)

    # ---- framing ----

    def test_headers_and_uri_too_large(self):
        self.expect(self.server.raw(request("GET", "/health", None, ["X-A: " + "a" * 33000])), 431)
        self.expect(self.server.raw(request("GET", "/health", None, [f"X-{i}: b" for i in range(200)])), 431)
        self.expect(self.server.raw(request("GET", "/" + "a" * 9000)), 414)

    def test_smuggling_is_refused_and_the_connection_closed(self):
        body = json.dumps(ASK).encode()
        length = f"Content-Length: {len(body)}"
        cases = [[length, "Transfer-Encoding: chunked"], [length, length], [length, "Content-Length: 3"],
                 ["Host: other", length], ["Transfer-Encoding: gzip"], ["Transfer-Encoding: chunked, chunked"],
                 ["Transfer-Encoding: identity"], ["Transfer-Encoding : chunked"], ["X Y: 1", length],
                 ["Content-Length: +5"], ["Content-Length: 0x7"], ["Content-Length: "]]
        for headers in cases:
            with self.server.connect() as s:
                s.sendall(request("POST", "/rerank", None, headers) + body)
                answer = read_answer(s)
                self.assertIsNotNone(answer, headers)
                self.assertIn(answer.status, (400, 411), headers)
                try:
                    self.assertEqual(s.recv(1000), b"", headers)  # closed: nothing behind is answered
                except ConnectionResetError:
                    pass

    def test_length_and_encoding(self):
        self.expect(self.server.raw(request("POST", "/rerank")), 411)
        self.expect(self.server.post("/rerank", ASK, ["Content-Encoding: gzip"]), 415)

    def test_unknown_path_and_method(self):
        self.expect(self.server.get("/nope"), 404)
        answer = self.expect(self.server.get("/rerank"), 405)
        self.assertEqual(answer.headers["allow"], "POST")
        self.expect(self.server.post("/health", b"{}"), 405)

    def test_keep_alive_and_pipelining(self):
        with self.server.connect() as s:
            body = json.dumps(ASK).encode()
            s.sendall(request("POST", "/rerank", body) * 3)
            data = b""
            while data.count(b"HTTP/1.1 200") < 3 or not data.endswith(b"]"):
                piece = s.recv(65536)
                self.assertTrue(piece)
                data += piece

    # ---- answers ----

    def test_dialects_have_their_shapes(self):
        docs = {"model": "m", "query": "how do tides work", "documents": ["tides", "bread", "sea"]}
        s = self.server
        tei = s.post("/rerank", {**ASK, "return_text": True}).json
        self.assertEqual(set(tei[0]), {"index", "score", "text"})
        self.assertEqual([r["score"] for r in tei], sorted((r["score"] for r in tei), reverse=True))
        v2 = s.post("/v2/rerank", {**docs, "top_n": 2}).json
        self.assertEqual(len(v2["results"]), 2)
        self.assertEqual(set(v2["results"][0]), {"index", "relevance_score"})
        self.assertIn("meta", v2)
        v1 = s.post("/v1/rerank", {**docs, "return_documents": True}, ["X-Client-Name: cohere-python"]).json
        self.assertEqual(set(v1["results"][0]), {"index", "relevance_score", "document"})
        jina = s.post("/v1/rerank", docs).json
        self.assertEqual(set(jina["results"][0]["document"]), {"text"})
        self.assertGreater(jina["usage"]["total_tokens"], 0)
        voyage = s.post("/v1/rerank", {**docs, "top_k": 1}).json
        self.assertEqual(len(voyage["data"]), 1)
        vllm = s.post("/rerank", docs).json
        self.assertEqual(set(vllm), {"id", "model", "usage", "results"})
        infinity = s.post("/rerank", {**docs, "return_documents": False}).json
        self.assertEqual(infinity["object"], "rerank")
        self.assertIsNone(infinity["results"][0]["document"])
        llama = s.post("/reranking", docs).json
        self.assertEqual(set(llama), {"model", "object", "usage", "results"})
        self.assertIsInstance(s.post("/reranking", ASK).json, list)
        nim = s.post("/v1/ranking", {"model": "m", "query": {"text": "q"}, "passages": [{"text": "a"}]}).json
        self.assertEqual(set(nim["rankings"][0]), {"index", "logit"})
        score = s.post("/score", {"text_1": ["a", "b"], "text_2": ["c", "d"]}).json
        self.assertEqual([d["index"] for d in score["data"]], [0, 1])
        self.expect(s.post("/score", {"text_1": ["a", "b"], "text_2": ["c"]}), 400)

    # ---- fields that are applied, not only accepted ----

    WORDS = ["waaaa", "wbaaa", "wcaaa", "wdaaa", "weaaa", "wfaaa"]  # a token each in the model of these tests

    def scores(self, path, body, status=200, headers=()):
        answer = self.expect(self.server.post(path, body, headers), status)
        if status != 200:
            return answer.text
        results = answer.json["results"] if "results" in answer.json else answer.json["data"]
        return {r["index"]: r.get("relevance_score", r.get("score")) for r in results}

    def test_max_tokens_per_doc_and_query(self):
        long, cut = " ".join(self.WORDS * 100), " ".join(self.WORDS[:3])
        for path, extra in [("/v2/rerank", {}), ("/rerank", {"use_activation": True})]:
            ask = {"query": "wgaaa whaaa wiaaa", "documents": [long, cut], **extra}
            whole = self.scores(path, ask)
            self.assertNotEqual(whole[0], whole[1])
            short = self.scores(path, {**ask, "max_tokens_per_doc": 3})
            self.assertEqual(short[0], whole[1])
            self.assertEqual(short[1], whole[1])
            self.assertEqual(self.scores(path, {**ask, "max_tokens_per_doc": 0}), whole)
            self.scores(path, {**ask, "max_tokens_per_doc": -1}, 400)
        ask = {"query": "wgaaa whaaa wiaaa", "documents": [cut]}
        self.assertEqual(self.scores("/rerank", {**ask, "max_tokens_per_query": 2}),
                         self.scores("/rerank", {**ask, "query": "wgaaa whaaa"}))
        # What is returned is the document as it came.
        answer = self.server.post("/rerank", {"query": "q", "documents": [long], "max_tokens_per_doc": 2,
                                              "max_tokens_per_query": 1}).json
        self.assertEqual(answer["results"][0]["document"]["text"], long)
        # UTF-8 and one endless word.
        for text in ["\u00e9\U0001F600 " * 5000, "a" * 200000]:
            self.scores("/v2/rerank", {"query": "q", "documents": [text], "max_tokens_per_doc": 2})

    def test_truncate_prompt_tokens(self):
        long, cut = " ".join(self.WORDS * 100), " ".join(self.WORDS[:3])
        ask = {"query": "wgaaa", "documents": [long, cut]}
        whole = self.scores("/rerank", {**ask, "truncate_prompt_tokens": -1})
        short = self.scores("/rerank", {**ask, "truncate_prompt_tokens": 7})  # [CLS] q [SEP] 3 [SEP]
        self.assertEqual(short[0], whole[1])
        self.scores("/rerank", {**ask, "truncate_prompt_tokens": 1}, 400)
        self.scores("/rerank", {**ask, "truncation_side": "left"}, 400)

    def test_rank_fields_are_the_text(self):
        docs = [{"title": "wgaaa", "text": "waaaa wbaaa", "year": 1}, {"text": "waaaa"}, "plain"]
        ask = {"query": "wgaaa", "documents": docs, "rank_fields": ["title", "text"]}
        joined = self.scores("/v1/rerank", ask)
        plain = self.scores("/v1/rerank", {"query": "wgaaa", "documents": ["wgaaa\nwaaaa wbaaa", "waaaa", "plain"]})
        self.assertEqual(joined, plain)
        self.assertNotEqual(self.scores("/v1/rerank", {**ask, "rank_fields": ["text"]})[0], joined[0])
        # A document that has none of them as a string is its text; without that it is none.
        self.assertEqual(self.scores("/v1/rerank", {**ask, "rank_fields": ["title", "year"]}),
                         self.scores("/v1/rerank", {"query": "wgaaa", "documents": ["wgaaa", "waaaa", "plain"]}))
        ask["documents"] = ["plain", {"title": "wgaaa"}]
        self.assertIn("documents[1]", self.scores("/v1/rerank", {**ask, "rank_fields": ["year"]}, 400))
        self.scores("/v1/rerank", {**ask, "rank_fields": "text"}, 400)

    def test_truncation_false_refuses_what_is_long(self):
        long = {"query": "q", "documents": ["word " * 3000]}
        self.assertIn("truncation is off", self.scores("/v1/rerank", {**long, "truncation": False, "top_k": 1}, 400))
        self.scores("/v1/rerank", {**long, "truncation": True, "top_k": 1})
        # One of many, in whatever batch it lies; what is in the cache from a cut pair is not asked.
        many = [f"wa{chr(97 + i % 26)}aa wb{chr(97 + i // 26)}aa" for i in range(400)]
        self.scores("/v1/rerank", {"query": "q", "documents": many, "truncation": False, "top_k": 1})
        many[300] = long["documents"][0]
        self.assertIn("text 300 has", self.scores("/v1/rerank", {"query": "q", "documents": many, "truncation": False,
                                                                 "top_k": 1}, 400))
        # With Jina's top_n it is Jina's: its answer, and the same meaning.
        answer = self.server.post("/v1/rerank", {**long, "truncation": True, "top_n": 1})
        self.assertIn("usage", answer.json)
        self.assertIn("results", answer.json)
        self.scores("/v1/rerank", {**long, "truncation": False, "top_n": 1}, 400)

    def test_names_of_request_and_user(self):
        answer = self.expect(self.server.post("/rerank", {"query": "q", "documents": ["a"], "request_id": "mine-7",
                                                          "user": "u-\u00e9"}), 200)
        self.assertEqual(answer.headers["x-request-id"], "mine-7")
        self.assertTrue(answer.json["id"].endswith("mine-7"))
        self.assertTrue(wait_until(lambda: any('"mine-7"' in line for line in self.server.lines)))
        line = next(line for line in self.server.lines if '"mine-7"' in line)
        self.assertEqual(json.loads(line)["user"], "u-\u00e9")
        self.scores("/rerank", {"query": "q", "documents": ["a"], "request_id": "x" * 200}, 400)

    def test_add_special_tokens(self):
        with_, without = ([t["id"] for t in self.server.post("/tokenize", {"inputs": "waaaa", "add_special_tokens": flag}).json[0]]
                          for flag in (True, False))
        self.assertEqual(len(with_), 3)
        self.assertEqual(without, with_[1:2])
        self.assertIn("add_special_tokens", self.scores("/v2/rerank", {"query": "q", "documents": ["a"],
                                                                       "add_special_tokens": False}, 400))

    def test_tokenize(self):
        one = self.expect(self.server.post("/tokenize", {"inputs": "wgaaa whaaa"}), 200).json
        plain = self.expect(self.server.post("/tokenize", {"inputs": ["wgaaa whaaa"], "add_special_tokens": False}), 200).json
        self.assertEqual([t["id"] for t in one[0]][1:-1], [t["id"] for t in plain[0]])
        many = self.expect(self.server.post("/tokenize", {"inputs": ["wg " * (i % 100) for i in range(400)]}), 200).json
        self.assertEqual([len(m) for m in many], [i % 100 + 2 for i in range(400)])  # none is cut, all in order
        for body, status in [({}, 422), ({"inputs": 1}, 422), ({"inputs": [1]}, 422), ({"inputs": []}, 400),
                             ({"inputs": ["a"] * 501}, 413), ({"inputs": "a", "model": 7}, 422),
                             ({"inputs": "a", "add_special_tokens": 1}, 422)]:
            self.expect(self.server.post("/tokenize", body), status)
        self.expect(self.server.post("/tokenize", b'{"inputs": "a", "inputs": "b"}'), 400)

    def test_priority_out_of_range(self):
        for priority in (1001, -1001, 1.5, "1"):
            self.assertIn("priority", self.scores("/v2/rerank", {"query": "q", "documents": ["a"], "priority": priority}, 400))
        self.scores("/v2/rerank", {"query": "q", "documents": ["a"], "priority": 999})

    # ---- the same scores ----

    def test_scores_are_those_of_crank_rank_bit_for_bit(self):
        texts = [f"document {i} " + "tides and the moon " * (i % 17) for i in range(100)]
        answers = {}

        def ask(i):  # many at once, so that batches mix requests
            part = texts[i * 10:(i + 1) * 10]
            body = {"query": "how do tides work", "texts": part, "raw_scores": True}
            for r in self.server.post("/rerank", body).json:
                answers[i * 10 + r["index"]] = r["score"]

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(10)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        lines = "\n".join(json.dumps({"text": t}) for t in texts) + "\n"
        out = subprocess.run([CRANK, "rank", "-m", model(), "-q", "how do tides work", "--json", "--format", "jsonl",
                              "--device", "cpu", "--activation", "identity"], input=lines.encode(),
                             capture_output=True, check=True).stdout
        expected = {r["index"]: r["score"] for r in json.loads(out)["results"]}
        self.assertEqual(answers, expected)

    def test_request_id_and_server_timing(self):
        answer = self.server.post("/rerank", ASK, ["X-Request-Id: abc-1"])
        self.assertEqual(answer.headers["x-request-id"], "abc-1")
        self.assertRegex(answer.headers["server-timing"], r"tokenize;dur=[\d.]+, queue;dur=[\d.]+, compute;dur=[\d.]+")
        self.assertNotEqual(self.server.post("/rerank", ASK, ['X-Request-Id: a"b']).headers["x-request-id"], 'a"b')
        self.assertTrue(wait_until(lambda: any('"abc-1"' in line for line in self.server.lines)))
        line = next(line for line in self.server.lines if '"abc-1"' in line)
        self.assertEqual(json.loads(line)["status"], 200)

    def test_pages(self):
        for path in ["/", "/page.css", "/page.js", "/openapi.json", "/info", "/health", "/health/live",
                     "/health/ready", "/metrics", "/v1/models"]:
            self.expect(self.server.get(path), 200)
        self.assertNotIn("http", self.server.get("/page.css").text)
        document = self.server.get("/openapi.json").json
        self.assertLessEqual({"/rerank", "/v1/rerank", "/v2/rerank", "/score", "/v1/ranking"}, set(document["paths"]))
        self.expect(self.server.raw(request("HEAD", "/health", close=True)), 200)

    def test_cache_answers_the_second_time(self):
        before = self.server.metric("crank_computed_pairs_total")
        body = {"query": "cached", "texts": ["one", "one two three", "one"]}
        first = self.server.post("/rerank", body).json
        middle = self.server.metric("crank_computed_pairs_total")
        self.assertEqual(middle - before, 2)  # the third equals the first
        self.assertEqual(self.server.post("/rerank", body).json, first)
        self.assertEqual(self.server.metric("crank_computed_pairs_total"), middle)

    def test_metrics_have_both_families(self):
        self.server.post("/rerank", ASK)
        text = self.server.get("/metrics").text
        for name in ["crank_request_seconds_bucket", "te_request_count", "te_request_success", "te_request_duration_bucket",
                     "te_batch_next_size_bucket", "te_batch_next_tokens_bucket", "te_queue_size", "crank_requests_total"]:
            self.assertIn(name, text)

    def test_zz_descriptors_stay(self):
        folder = f"/proc/{self.server.process.pid}/fd"
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=LIMIT)

        def run(n):
            for i in range(n):
                connection.request("POST", "/rerank", json.dumps({"query": f"q{i % 50}", "texts": ["a", "b"]}))
                self.assertEqual(connection.getresponse().read()[:1], b"[")

        def alone():
            connection.request("GET", "/metrics")
            return b"\ncrank_connections 1\n" in connection.getresponse().read()

        run(300)
        self.assertTrue(wait_until(alone))
        descriptors = len(os.listdir(folder))
        run(1500)
        self.assertTrue(wait_until(alone))
        # The descriptor of a connection is closed a moment after the connection is counted out.
        self.assertTrue(wait_until(lambda: len(os.listdir(folder)) <= descriptors, 30))
        connection.close()


class Time(unittest.TestCase):
    """What is slow is ended; each limit has a server of its own, where the others are far away."""
    FAR = {"--header-timeout-ms": "3600000", "--body-timeout-ms": "3600000", "--idle-timeout-ms": "3600000"}

    def server(self, name, ms):
        return Server(*(word for pair in {**self.FAR, name: str(ms)}.items() for word in pair))

    def dribble(self, s, first):
        """Sends first and then a byte now and then, for 60 s or until the server closes: what came, and
        whether it closed."""
        got, data, end = b"", first, time.monotonic() + 60
        s.settimeout(0.1)
        while time.monotonic() < end:
            try:
                s.sendall(data)
            except OSError:
                pass  # what came before can still be read
            data = b" "
            try:
                piece = s.recv(4096)
                if not piece:
                    return got, True
                got += piece
            except socket.timeout:
                continue
            except OSError:
                return got, True
        return got, False

    def test_slow_headers_are_closed(self):
        with self.server("--header-timeout-ms", 700) as server:
            start = time.monotonic()
            with server.connect() as s:
                self.assertEqual(self.dribble(s, b"POST /rerank HTTP/1.1\r\nHost: a\r\nX: "), (b"", True))
            self.assertGreaterEqual(time.monotonic() - start, 0.7)
            with server.connect() as s:  # not even one byte
                self.assertEqual(s.recv(100), b"")

    def test_slow_body_is_408(self):
        with self.server("--body-timeout-ms", 1200) as server:
            start = time.monotonic()
            with server.connect() as s:
                got, closed = self.dribble(s, request("POST", "/rerank", None, ["Content-Length: 1000"]))
            self.assertTrue(got.startswith(b"HTTP/1.1 408"), got[:200])
            self.assertTrue(closed)
            self.assertGreaterEqual(time.monotonic() - start, 1.2)

    def test_idle_connection_is_closed(self):
        with self.server("--idle-timeout-ms", 1500) as server:
            with server.connect() as s:
                start = time.monotonic()
                s.sendall(request("GET", "/health"))
                expect(self, read_answer(s), 200)
                self.assertEqual(s.recv(100), b"")
                self.assertGreaterEqual(time.monotonic() - start, 1.5)


class Keys(unittest.TestCase):
    def test_keys(self):
        path = os.path.join(FOLDER, "keys")
        with open(path, "w") as f:
            f.write("# comment\nfirst-key\nsecond-key\n")
        with Server("--api-keys", path) as s:
            self.assertEqual(s.post("/rerank", ASK).status, 401)
            self.assertEqual(s.post("/rerank", ASK, ["Authorization: Bearer first-ke"]).status, 401)
            self.assertEqual(s.post("/rerank", ASK, ["Authorization: Bearer # comment"]).status, 401)
            self.assertEqual(s.post("/rerank", ASK, ["Authorization: Bearer second-key"]).status, 200)
            self.assertEqual(s.post("/rerank", ASK, ["X-API-Key: first-key"]).status, 200)
            self.assertEqual(s.get("/health").status, 200)
            self.assertEqual(s.get("/metrics").status, 401)
            self.assertEqual(s.get("/openapi.json").json["security"], [{"key": []}])
            # Before the body is read: the body never comes.
            answer = s.raw(request("POST", "/rerank", None, ["Content-Length: 1000"]))
            self.assertEqual(answer.status, 401)


class Settings(unittest.TestCase):
    def test_file_environment_and_line(self):
        path = os.path.join(FOLDER, "config.json")
        with open(path, "w") as f:
            json.dump({"max_documents": 3, "model": ["a=" + model(), "b=" + model()], "dialect": "cohere-v2"}, f)
        with Server("--config", path, "--max-documents", "5", model_options=[], env={"CRANK_MAX_DOCUMENTS": "4"}) as s:
            docs = {"query": "q", "documents": ["d"] * 5, "model": "b"}
            answer = s.post("/rerank", docs)
            self.assertEqual(answer.status, 200)
            self.assertIn("meta", answer.json)  # the fixed dialect
            self.assertEqual(s.post("/rerank", {**docs, "documents": ["d"] * 6}).status, 400)
            self.assertEqual(s.post("/rerank", {**docs, "model": "c"}).status, 404)
            self.assertEqual([m["id"] for m in s.get("/v1/models").json["data"]], ["a", "b"])

    def test_environment_alone_as_in_the_container(self):
        keys, config = os.path.join(FOLDER, "env-keys"), os.path.join(FOLDER, "env.json")
        with open(keys, "w") as f:
            f.write("k\n")
        with open(config, "w") as f:
            json.dump({"max-body": 1000, "scores": "identity", "pin": False, "redis": None}, f)
        env = {"CRANK_MODEL": model(), "CRANK_API_KEYS": keys, "CRANK_CONFIG": config, "CRANK_LOG": "json",
               "CRANK_MAX_DOCUMENTS": "2", "CRANK_PIN": "0", "CRANK_LONG": "window", "CRANK_DIALECT": "auto"}
        with Server(model_options=[], env=env) as s:
            key = ["Authorization: Bearer k"]
            self.assertEqual(s.post("/rerank", ASK).status, 401)
            self.assertEqual(s.post("/rerank", ASK, key).status, 413)  # three texts
            self.assertEqual(s.post("/rerank", {"query": "q" * 2000, "texts": ["a"]}, key).status, 413)
            answer = s.post("/rerank", {"query": "q", "texts": ["a"], "return_window": True}, key)
            self.assertIn("window", answer.json[0])
            raw = s.post("/rerank", {"query": "q", "texts": ["a"], "raw_scores": True}, key)
            self.assertEqual(answer.json[0]["score"], raw.json[0]["score"])

    def test_names_of_text_embeddings_inference(self):
        with Server("--max-client-batch-size", "2", "--payload-limit=500", "--max-batch-tokens", "64", "--hostname", "127.0.0.1",
                    model_options=["--model-id", model()]) as s:
            self.assertEqual(s.post("/rerank", ASK).status, 413)
            self.assertEqual(s.post("/rerank", {"query": "q" * 600, "texts": ["a"]}).status, 413)
            self.assertEqual(s.post("/rerank", {"query": "q", "texts": ["a", "b"]}).status, 200)

    def test_bad_settings_say_where(self):
        cases = [('{"port": 8080', "line 1"), ('[]', "object"), ('{"nope": 1}', "nope"), ('{"port": 1.5}', "port"),
                 ('{"port": {}}', "port"), ('{"port": 1, "port": 2}', "port"), ('{"port": 70000}', "port")]
        path = os.path.join(FOLDER, "bad.json")
        for content, word in cases:
            with open(path, "w") as f:
                f.write(content)
            done = subprocess.run([CRANK, "serve", "-m", model(), "--config", path], capture_output=True, timeout=LIMIT, text=True)
            self.assertEqual(done.returncode, 2, content)
            self.assertIn(word, done.stderr, content)
        done = subprocess.run([CRANK, "serve", "-m", model()], capture_output=True, timeout=LIMIT, text=True,
                              env=environment({"CRANK_PORT": "x"}))
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (2, 1))

    def test_misuse(self):
        for arguments in [[], ["-m", model(), "--max-documents", "x"], ["-m", model(), "--dialect", "nope"],
                          ["-m", model(), "--config", "/nonexistent"], ["-m", model(), "--api-keys", "/nonexistent"]]:
            done = subprocess.run([CRANK, "serve", *arguments], capture_output=True, timeout=LIMIT)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertEqual(len(done.stderr.decode().strip().splitlines()), 1)
        done = subprocess.run([CRANK, "serve", "-m", "/nonexistent"], capture_output=True, timeout=LIMIT)
        self.assertEqual(done.returncode, 3)


class Tls(unittest.TestCase):
    def test_https(self):
        cert, key = os.path.join(FOLDER, "cert.pem"), os.path.join(FOLDER, "key.pem")
        try:
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
        except FileNotFoundError:
            print("SKIPPED: openssl is not installed", flush=True)
            self.skipTest("no openssl")
        with Server("--tls-cert", cert, "--tls-key", key, "--header-timeout-ms", "500") as s:
            with s.connect() as c:  # a handshake that never comes
                self.assertEqual(c.recv(100), b"")
        with Server("--tls-cert", cert, "--tls-key", key, "--max-body", "1000", "--header-timeout-ms", "3600000") as s:
            self.assertTrue(s.url.startswith("https://"))
            trust = ssl.create_default_context(cafile=cert)

            def connect():
                return trust.wrap_socket(s.connect(), server_hostname="localhost")

            with connect() as c:
                for _ in range(2):  # the connection is kept
                    c.sendall(request("POST", "/rerank", json.dumps(ASK).encode()))
                    self.assertEqual(len(expect(self, read_answer(c), 200).json), 3)
            with connect() as c:
                c.sendall(request("POST", "/rerank", None, ["Content-Length: 2000"]))
                expect(self, read_answer(c), 413)
            with connect() as c:  # chunks: nothing can be said in between, the connection ends
                c.sendall(request("POST", "/rerank", None, ["Transfer-Encoding: chunked"]))
                try:
                    for _ in range(20):
                        c.sendall(b"100\r\n" + b"x" * 256 + b"\r\n")
                        time.sleep(0.01)
                    self.assertIsNone(read_answer(c))
                except OSError:
                    pass
            with connect() as a:  # many at once, and one that leaves while it waits
                a.sendall(request("POST", "/rerank", json.dumps(ASK).encode()))
            self.assertIsNone(s.raw(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"))  # not TLS
            with connect() as c:
                c.sendall(request("GET", "/health"))
                expect(self, read_answer(c), 200)
        for arguments in [["--tls-cert", cert], ["--tls-cert", cert, "--tls-key", "/nonexistent"],
                          ["--tls-cert", key, "--tls-key", key]]:
            done = subprocess.run([CRANK, "serve", "-m", model(), "--port", "0", *arguments], capture_output=True, timeout=LIMIT)
            self.assertEqual(done.returncode, 2, (arguments, done.stderr))
            self.assertEqual(len(done.stderr.decode().strip().splitlines()), 1, done.stderr)


class Deploy(unittest.TestCase):
    def test_every_option_of_unit_and_container_exists(self):
        folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../server/deploy")
        options = subprocess.run([CRANK, "serve", "--help"], capture_output=True, text=True, check=True).stdout
        for name in ("crank.service", "Dockerfile"):
            with open(os.path.join(folder, name)) as f:
                text = f.read()
            self.assertTrue(re.findall(r"(?<!-D)CRANK_([A-Z_]+)=", text))
            for variable in re.findall(r"(?<!-D)CRANK_([A-Z_]+)=", text):
                self.assertIn("--" + variable.lower().replace("_", "-"), options, name)
        with open(os.path.join(folder, "../../run")) as f:
            needed = re.search(r"build_packages=\(([^)]*)\)", f.read()).group(1).split()
        for package in needed:
            self.assertIn(package, text, "the Dockerfile builds without it")


class Windows(unittest.TestCase):
    def test_the_winning_span_is_returned(self):
        with Server("--long", "window") as s:
            text = "sea " * 700 + "how do tides work " + "bread " * 700
            body = {"query": "how do tides work", "texts": [text, "short"], "return_window": True}
            results = {r["index"]: r for r in s.post("/rerank", body).json}
            self.assertLess(results[0]["window"]["bytes"], len(text))
            self.assertEqual(results[1]["window"], {"start": 0, "bytes": 5})
            self.assertEqual({r["index"]: r for r in s.post("/rerank", body).json}, results)  # from the cache

    def test_max_chunks_per_doc_limits_the_windows(self):
        with Server("--long", "window", "--max-length", "32") as s:
            words = [f"w{a}{b}aa" for a in "abcdefghij" for b in "abcdefghij"]
            ask = {"query": "wzaaa", "documents": [" ".join(words)], "return_window": True}

            def answer(chunks):
                return s.post("/v1/rerank", {**ask, "max_chunks_per_doc": chunks}).json["results"][0]

            # room 29, a query of 1, windows of 28 that share 7: the first holds 28 words, two hold 49.
            one = s.post("/v1/rerank", {**ask, "documents": [" ".join(words[:28])], "max_chunks_per_doc": 9}).json["results"][0]
            self.assertEqual(answer(1), one)
            two = s.post("/v1/rerank", {**ask, "documents": [" ".join(words[:49])], "max_chunks_per_doc": 9}).json["results"][0]
            self.assertEqual(answer(2), two)
            self.assertGreaterEqual(answer(1000)["relevance_score"], one["relevance_score"])


class Load(unittest.TestCase):
    def batches(self, s):
        return s.metric("crank_batch_pairs_count")

    def hold(self, s, tag=""):
        """A connection whose request keeps s busy until it is closed: for a with block."""
        c = s.connect()
        before = s.metric("crank_queue_requests")
        c.sendall(endless(tag))
        self.assertTrue(wait_until(lambda: s.metric("crank_queue_requests") == before + 1))
        return c

    def assert_unanswered(self, c):
        c.settimeout(0.001)
        self.assertRaises(socket.timeout, c.recv, 1)

    def test_full_queue_is_429_at_once(self):
        with Server(*LONG_BATCHES, "--queue-pairs", "100") as s, self.hold(s) as c:
            start = self.batches(s)
            for i in range(20):
                answer = expect(self, s.post("/rerank", ask_for(1, 5, str(i))), 429)
                self.assertEqual(answer.headers["retry-after"], "1")
                self.assertIn("retry-after-ms", answer.headers)
                self.assertEqual(answer.json["error_type"], "Overloaded")
            self.assertLess(self.batches(s) - start, 10)  # at once: nobody waited for the engine
            self.assert_unanswered(c)
            c.close()
            self.assertTrue(wait_until(lambda: s.metric("crank_queue_pairs") == 0))

    def test_deadlines_are_504(self):
        with Server(*SHORT_BATCHES) as s, self.hold(s) as c:
            # One may find a batch that begins within its millisecond, and be scored in it.
            seen = [s.post("/rerank", ask_for(1, 5, str(i)), ["x-request-timeout-ms: 1"]).status for i in range(20)]
            self.assertLessEqual(set(seen), {200, 504})
            self.assertGreater(seen.count(504), seen.count(200))
            self.assert_unanswered(c)

    def test_many_clients_get_answers_or_refusals(self):
        with Server("--queue-pairs", "300", "--queue-ms", "600000", "--cache-mb", "0", "--batch-ms", "20") as s:
            seen = set()

            def step(i, k):
                answer = s.post("/rerank", ask_for(140, 60, f"{i} {k}"), [f"x-request-timeout-ms: {1 + 600000 * (k % 2)}"])
                seen.add(answer.status)

            with Clients(3, step):
                self.assertTrue(wait_until(lambda: {200, 429, 504} <= seen))
            self.assertEqual(seen, {200, 429, 504})
            self.assertEqual(s.metric("crank_queue_pairs"), 0)

    def test_priority_goes_first(self):
        with Server(*SHORT_BATCHES) as s:
            # Nothing is known of the first one's cost yet, so that its place in the queue is now.
            with self.hold(s), s.connect() as late, s.connect() as soon:
                # Ten seconds later, ten seconds sooner; as long as the others, so that they fill no gap of a batch.
                late.sendall(endless("late", 3, priority=1000))
                self.assertTrue(wait_until(lambda: s.metric("crank_queue_requests") == 2))
                soon.sendall(endless("soon", 3, priority=-1000))
                expect(self, read_answer(soon), 200)
                self.assert_unanswered(late)

    def test_health_answers_while_saturated(self):
        with Server(*LONG_BATCHES) as s, self.hold(s) as c:
            start = self.batches(s)
            for _ in range(40):
                expect(self, s.get("/health"), 200)
            self.assertLess(self.batches(s) - start, 20)
            self.assert_unanswered(c)

    def test_client_that_leaves_frees_its_place(self):
        with Server(*SHORT_BATCHES) as s:
            with self.hold(s, "a"), self.hold(s, "b"):
                self.assertGreater(s.metric("crank_queue_pairs"), ENDLESS)
            self.assertTrue(wait_until(lambda: s.metric("crank_queue_pairs") == 0))
            self.assertLess(s.metric("crank_computed_pairs_total"), ENDLESS / 2)
            self.assertEqual(s.metric("crank_clients_gone_total"), 2)
            expect(self, s.post("/rerank", ASK), 200)

    def test_slow_connections_do_not_hold_others(self):
        with Server("--header-timeout-ms", "3600000") as s:
            slow = [s.connect() for _ in range(min(200, CONNECTIONS // 2))]
            for c in slow:
                c.sendall(b"POST /rerank HTTP/1.1\r\nHost: a\r\n")
            for _ in range(20):
                expect(self, s.post("/rerank", ASK), 200)
            for c in slow:
                self.assertEqual(select.select([c], [], [], 0)[0], [])  # all are still there
                c.close()


class Stopping(unittest.TestCase):
    def stop_under_load(self, drain_ms, look):
        """SIGTERM once each of four clients has had an answer. look: /health must say 503 before the listener
        closes; returns whether it was looked at in time."""
        s = Server("--drain-ms", str(drain_ms), "--deadline-ms", "0")
        lost, answered = [], [0] * 4

        def step(i, k):
            try:
                c = s.connect()
            except OSError:
                return False  # refused: the listener is closed
            with c:
                c.sendall(request("POST", "/rerank", json.dumps(ask_for(4, 8, f"{i} {k}")).encode()))
                answer = read_answer(c)
            if answer is None or answer.status not in (200, 429):
                lost.append(answer and answer.status)
            answered[i] += 1

        seen = not look
        with Clients(4, step):
            self.assertTrue(wait_until(lambda: min(answered) > 0))
            s.term()
            try:
                seen = seen or wait_until(lambda: s.get("/health").status == 503)
            except (OSError, AttributeError):
                pass  # the listener has closed
            self.assertEqual(s.stop(term=False), 0)
        self.assertEqual(lost, [])
        return seen

    def test_term_under_load_loses_nothing(self):
        for _ in range(2):
            self.stop_under_load(100, look=False)
        # As long as it takes to look within the drain, which on a busy machine is long.
        self.assertTrue(any(self.stop_under_load(ms, look=True) for ms in (1000, 5000, 20000)))

    def test_second_term_ends_at_once(self):
        s = Server("--drain-ms", "20000")
        s.term()
        self.assertTrue(wait_until(lambda: s.get("/health").status == 503))
        self.assertEqual(s.stop(), 1)  # the end of the drain is 0


def ask_redis(path, command):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(LIMIT)
        s.connect(path)
        s.sendall(command + b"\r\n")
        return s.recv(1000)


def redis_answers(path):
    try:
        return ask_redis(path, b"PING") == b"+PONG\r\n"
    except OSError:
        return False


class Redis(unittest.TestCase):
    def test_shared_tier_may_vanish(self):
        path = os.path.join(FOLDER, "redis.sock")
        try:
            redis = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no"],
                                     stdout=subprocess.DEVNULL)
        except FileNotFoundError:
            print("SKIPPED: redis-server is not installed", flush=True)
            self.skipTest("no redis-server")
        try:
            self.assertTrue(wait_until(lambda: redis_answers(path)))
            shared = ["--redis", path, "--redis-timeout-ms", "60000"]
            with Server(*shared) as a, Server(*shared) as b:
                first = a.post("/rerank", ASK).json
                self.assertTrue(wait_until(lambda: ask_redis(path, b"DBSIZE") == b":3\r\n"))
                self.assertEqual(b.post("/rerank", ASK).json, first)
                self.assertEqual(b.metric("crank_computed_pairs_total"), 0)
                # The same model elsewhere is the same; another configuration of it is not.
                for change, computed in ((None, 0), ("layer_norm_eps", 3)):
                    copy = os.path.join(FOLDER, f"copy-{change}")
                    shutil.copytree(model(), copy)
                    if change:
                        with open(os.path.join(copy, "config.json")) as f:
                            config = json.load(f)
                        config[change] = 1e-3
                        with open(os.path.join(copy, "config.json"), "w") as f:
                            json.dump(config, f)
                    with Server(*shared, model_options=["-m", copy]) as c:
                        self.assertEqual(c.post("/rerank", ASK).json == first, change is None)
                        self.assertEqual(c.metric("crank_computed_pairs_total"), computed)
                redis.kill()
                redis.wait()
                for i in range(20):
                    self.assertEqual(b.post("/rerank", {"query": f"gone {i}", "texts": ["x", "y"]}).status, 200)
                self.assertGreater(b.metric("crank_redis_errors_total"), 0)
        finally:
            redis.kill()
            redis.wait()


if __name__ == "__main__":
    program = unittest.main(exit=False, verbosity=1)
    result = program.result
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad - len(result.skipped)} passed, {bad} failed, {len(result.skipped)} skipped", flush=True)
    sys.exit(1 if bad else 0)
