"""Real clients from PyPI, unchanged, against the program: in a virtual environment of their own under
the build folder. CRANK_CLIENTS=1 installs them; without it, or when PyPI is not there, the tests are
counted as skipped."""
import os
import subprocess
import sys
import unittest
import venv

sys.path.insert(0, os.path.dirname(__file__))
import support
from support import CRANK, Server

HOME = os.path.join(os.path.dirname(os.path.abspath(CRANK)), "clients-venv")
PYTHON = os.path.join(HOME, "bin", "python")
PACKAGES = ["cohere==5.21.1", "llama-index-postprocessor-tei-rerank==0.6.0", "langchain-cohere==0.6.0",
            "litellm==1.110.2", "schemathesis==4.32.5"]
DOCS = ["tides follow the moon", "bread needs flour", "the sea rises twice a day"]


def has(package):
    return os.path.exists(PYTHON) and subprocess.run(
        [PYTHON, "-m", "pip", "show", "-q", package.split("==")[0]], capture_output=True).returncode == 0


def install(package):
    if has(package):
        return True
    if not os.environ.get("CRANK_CLIENTS"):
        return False
    if not os.path.exists(PYTHON):
        venv.create(HOME, with_pip=True)
    return subprocess.run([PYTHON, "-m", "pip", "install", "-q", package], timeout=900).returncode == 0


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def run_client(self, package, code):
        if not install(package):
            print(f"SKIPPED: {package} is not installed (CRANK_CLIENTS=1 installs it)", flush=True)
            self.skipTest(package)
        code = f"URL = {self.server.url!r}\nDOCS = {DOCS!r}\n" + code
        done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, timeout=300,
                              env={**os.environ, "COHERE_API_KEY": "x", "NO_PROXY": "*", "no_proxy": "*"})
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])

    def test_cohere_v1(self):
        self.run_client(PACKAGES[0], """
import cohere
r = cohere.Client(api_key="x", base_url=URL).rerank(model="m", query="tides", documents=DOCS, top_n=2, return_documents=True)
assert len(r.results) == 2 and r.results[0].document.text in DOCS
assert r.results[0].relevance_score >= r.results[1].relevance_score
""")

    def test_cohere_v2(self):
        self.run_client(PACKAGES[0], """
import cohere
c = cohere.ClientV2(api_key="x", base_url=URL)
r = c.rerank(model="m", query="tides", documents=DOCS)
assert sorted(x.index for x in r.results) == [0, 1, 2]
try:
    c.rerank(model="m", query="tides", documents=[])
    raise SystemExit("no error")
except cohere.BadRequestError:
    pass
""")

    def test_llama_index_tei(self):
        self.run_client(PACKAGES[1], """
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference
from llama_index.core.schema import NodeWithScore, TextNode
nodes = [NodeWithScore(node=TextNode(text=d), score=0.0) for d in DOCS]
out = TextEmbeddingInference(base_url=URL, top_n=2).postprocess_nodes(nodes, query_str="tides")
assert len(out) == 2 and out[0].score >= out[1].score
""")

    def test_langchain_cohere(self):
        self.run_client(PACKAGES[2], """
import cohere
from langchain_cohere import CohereRerank
from langchain_core.documents import Document
r = CohereRerank(client=cohere.ClientV2(api_key="x", base_url=URL), model="m", top_n=2)
out = r.compress_documents([Document(page_content=d) for d in DOCS], "tides")
assert len(out) == 2 and "relevance_score" in out[0].metadata
""")

    def test_litellm(self):
        self.run_client(PACKAGES[3], """
import litellm
for model, base in [("jina_ai/m", URL + "/v1/rerank"), ("infinity/m", URL)]:
    r = litellm.rerank(model=model, query="tides", documents=DOCS, top_n=3, api_base=base, api_key="x")
    assert len(r.results) == 3, r
""")

    def test_schemathesis(self):
        if not install(PACKAGES[4]):
            print(f"SKIPPED: {PACKAGES[4]} is not installed (CRANK_CLIENTS=1 installs it)", flush=True)
            self.skipTest(PACKAGES[4])
        keys = os.path.join(support.FOLDER, "client-keys")
        with open(keys, "w") as f:
            f.write("sesame\n")
        with Server("--api-keys", keys) as keyed:
            for server, key in [(self.server, []), (keyed, ["-H", "Authorization: Bearer sesame"])]:
                done = subprocess.run(
                    [os.path.join(HOME, "bin", "st"), "--config-file", os.path.join(os.path.dirname(os.path.abspath(__file__)), "schemathesis.toml"),
                     "run", server.url + "/openapi.json", "-n", "20", "--seed", "7", "--request-timeout", "60", *key],
                    capture_output=True, text=True, timeout=500, cwd=support.FOLDER, env={**os.environ, "NO_PROXY": "*", "no_proxy": "*"})
                self.assertEqual(done.returncode, 0, (done.stdout + done.stderr)[-6000:])


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad - len(result.skipped)} passed, {bad} failed, {len(result.skipped)} skipped", flush=True)
    sys.exit(1 if bad else 0)
