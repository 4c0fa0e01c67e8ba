"""Runner of the native peers, faiss and implicit, with one thread each.

One request a line on standard input, one answer a line on standard output. `export` writes the ONNX
graph that onnxruntime-web runs: MatMul with the items' factors transposed, then TopK.
"""

import json
import os
import sys
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import faiss
import implicit.als
import numpy
import onnx
import scipy.sparse
from onnx import TensorProto, helper, numpy_helper

COUNT = 20
faiss.omp_set_num_threads(1)


def read(folder, name, dim):
    return numpy.fromfile(os.path.join(folder, name), dtype=numpy.float32).reshape(-1, dim)


class Peers:
    def open(self, folder, dim, **_):
        factors = read(folder, "factors.f32", dim)
        self.queries = read(folder, "queries.f32", dim)
        self.index = faiss.IndexFlatIP(dim)
        self.index.add(factors)
        # Panorama leaves rows off after some of their dimensions, too; eight levels of d = 64.
        self.panorama = faiss.IndexFlatIPPanorama(dim, 8, 512)
        self.panorama.add(factors)
        self.als = implicit.als.AlternatingLeastSquares(factors=dim, num_threads=1)
        self.als.item_factors = factors
        self.als.user_factors = self.queries
        return {}

    def export(self, folder, dim):
        factors = read(folder, "factors.f32", dim)
        graph = helper.make_graph(
            [
                helper.make_node("MatMul", ["query", "factors"], ["scores"]),
                helper.make_node("TopK", ["scores", "count"], ["best", "rows"], axis=1, largest=1, sorted=1),
            ],
            "rank",
            [helper.make_tensor_value_info("query", TensorProto.FLOAT, [1, dim])],
            [
                helper.make_tensor_value_info("best", TensorProto.FLOAT, [1, COUNT]),
                helper.make_tensor_value_info("rows", TensorProto.INT64, [1, COUNT]),
            ],
            [
                numpy_helper.from_array(numpy.ascontiguousarray(factors.T), "factors"),
                numpy_helper.from_array(numpy.array([COUNT], dtype=numpy.int64), "count"),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(model, os.path.join(folder, "rank.onnx"))
        return {}

    def rank(self, method, person):
        person %= len(self.queries)
        if method == "faiss":
            return self.index.search(self.queries[person : person + 1], COUNT)[1][0]
        if method == "panorama":
            return self.panorama.search(self.queries[person : person + 1], COUNT)[1][0]
        if method == "implicit":
            return self.als.recommend(person, None, N=COUNT, filter_already_liked_items=False)[0]
        raise ValueError(f"no method {method}")

    def time(self, method, calls, **request):
        first = request["from"]
        times = []
        for turn in range(first, first + calls):
            start = time.perf_counter()
            self.rank(method, turn)
            times.append((time.perf_counter() - start) * 1e6)
        return times

    def sweeps(self, folder, dim, count, alpha, conjugate, threads, **request):
        """Sweeps of implicit with the confidences and the mean ridge of the product's equations.

        They are, less a factor of alpha: G + 1/alpha sum q q^T + lambda/alpha (h + alpha n) I. implicit
        adds (c - 1) q q^T for a confidence c, and the same ridge to every row.
        """
        pairs = numpy.fromfile(os.path.join(folder, "pairs.u32"), dtype=numpy.uint32).reshape(-1, 2)
        users, items = pairs.max(0) + 1
        seen = scipy.sparse.csr_matrix(
            (numpy.ones(len(pairs), numpy.float32), (pairs[:, 0], pairs[:, 1])), shape=(users, items)
        )
        ridges = [len(pairs) / users + alpha * items, len(pairs) / items + alpha * users]
        als = implicit.als.AlternatingLeastSquares(
            factors=dim,
            alpha=1 + 1 / alpha,
            regularization=request["lambda"] / alpha * sum(ridges) / 2,
            iterations=count,
            use_cg=conjugate,
            num_threads=threads,
            random_state=1,
        )
        start = time.perf_counter()
        als.fit(seen, show_progress=False)
        seconds = (time.perf_counter() - start) / count
        with open(os.path.join(folder, "cases.json"), encoding="utf-8") as file:
            cases = json.load(file)
        gains = []
        for user, target, negatives in cases:
            scores = als.item_factors[[target, *negatives]] @ als.user_factors[user]
            above = (scores[1:] > scores[0]).sum()
            gains.append(1 / numpy.log2(2 + above) if above < 10 else 0)
        return {"seconds": seconds, "ndcg10": float(numpy.mean(gains))}

    def list(self, method, person):
        return {"rows": [int(row) for row in self.rank(method, person)]}


peers = Peers()
for line in sys.stdin:
    request = json.loads(line)
    try:
        reply = {"ok": getattr(peers, request.pop("do"))(**request)}
    except Exception as error:  # An error is an answer: the driver shows it.
        reply = {"error": repr(error)}
    print(json.dumps(reply), flush=True)
