from __future__ import annotations

import subprocess
import sys

from bert_serving.graph_opt import errors


def test_every_error_is_a_graph_opt_error():
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.GraphOptError)


def test_unsupported_op_names_node_and_operation():
    error = errors.UnsupportedOp("bert/x", "LookUp", "the ONNX target")
    assert "'bert/x'" in str(error)
    assert "LookUp" in str(error)
    assert (error.name, error.op) == ("bert/x", "LookUp")


def test_importing_loads_no_engine():
    code = (
        "import sys\n"
        "import bert_serving.graph_opt\n"
        "from bert_serving.graph_opt import graph, cache, pipeline, sources, interpreter\n"
        "from bert_serving.graph_opt.targets import onnx\n"
        "heavy = {'onnx', 'onnxruntime', 'tensorflow', 'safetensors', 'google.protobuf'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode()
