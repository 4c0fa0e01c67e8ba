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
        if method == "implicit":
            return self.als.recommend(person, None, N=COUNT, filter_already_liked_items=False)[0]
        raise ValueError(f"no method {method}")

    def time(self, method, calls, **request):
        first = request["from"]
        start = time.perf_counter()
        for turn in range(first, first + calls):
            self.rank(method, turn)
        return [(time.perf_counter() - start) * 1e6 / calls]

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
