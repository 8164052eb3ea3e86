from __future__ import annotations

from typing import Any, Dict, List, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.graph_opt.draft import Draft
from unit.graph_opt.engines import run_onnx, run_tensorflow
from unit.graph_opt.support import ops, random_source, snapshot

from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.passes.gather_heads import gather_heads
from bert_serving.graph_opt.pipeline import GraphOptions, build, optimize, pipeline_for
from bert_serving.server.engines import Features

LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=5)
STRATEGIES = ("NONE", "REDUCE_MEAN", "REDUCE_MEAN_MAX", "CLS_TOKEN", "LAST_TOKEN", "CLS_POOLED")
NO_QKV = ("fuse_qkv",)


def batch(lengths: Sequence[int], seed: int = 0) -> Features:
    random, count = np.random.RandomState(seed), sum(lengths)
    tokens = [random.randint(0, 11, count), random.randint(0, 2, count), np.ones(count)]
    return Features(np.array(tokens, np.int32), np.array(lengths, np.int32))


def pipeline(without: Sequence[str] = (), *args: str) -> Any:
    return [one for one in pipeline_for(*args, packed=True) if one[0] not in without]


def before(strategy: str, layers: Any = (-1,), without: Sequence[str] = ()) -> Graph:
    """A graph as the pass gets it."""
    trained = build(random_source(), GraphOptions(strategy, layers))
    passes = pipeline(without)
    names = [name for name, _ in passes]
    return optimize(trained, passes[: names.index("gather_heads")])[0]


def gathers(graph: Graph, index: str) -> int:
    return sum(node.op == "GatherV2" and node.inputs[1] == index for node in graph)


# ---------------------------------------------------------------------------------- real graphs


@pytest.mark.parametrize("without", [(), NO_QKV], ids=["fused", "unfused"])
def test_nothing_is_split_or_transposed(without: Any) -> None:
    graph = before("REDUCE_MEAN", without=without)
    kept = snapshot(graph)
    result, notes = gather_heads(graph)
    assert snapshot(graph) == kept
    assert notes == ("9 gathers to heads, 3 from heads",)
    assert ops(graph)["Transpose"] == 12
    assert not {"Split", "Transpose"} & set(ops(result))
    # One is left for the pooling.
    assert (gathers(graph, "slots"), gathers(result, "slots")) == (10, 1)
    assert gathers(result, "places") == 0
    assert (result.inputs, result.outputs) == (graph.inputs, graph.outputs)


def test_indices_are_computed_once_for_all_layers() -> None:
    for without, distinct in (((), 3), (NO_QKV, 1)):
        one, three = [gather_heads(before("NONE", (n,), without)).graph for n in (0, 2)]
        for graph, layers in ((one, 1), (three, 3)):
            index = {
                node.inputs[1]
                for node in graph
                if node.op == "GatherV2" and node.inputs[1].startswith("slots/heads")
            }
            assert len(index) == distinct
            assert gathers(graph, "places/heads") == layers
        for op in ("ExpandDims", "FloorDiv"):
            assert ops(one)[op] == ops(three)[op]


def test_attention_of_the_first_token_keeps_its_own_query() -> None:
    for layers in ((-1,), (0,)):
        graph = before("CLS_TOKEN", layers)
        result, notes = gather_heads(graph)
        assert "Split" not in ops(result)
        # Those of the last layer's query and context, of one token each.
        left = [result[node.inputs[0]] for node in result if node.op == "Transpose"]
        assert len(left) == 2
        assert len(notes) == 1, "that isn't worth a note"
        count = 2 * 3 if layers == (-1,) else 0
        assert notes[0].startswith("%d gathers to heads" % (count + 2))


def test_an_engine_that_transposes_a_key_by_itself_still_does() -> None:
    result = gather_heads(before("NONE")).graph
    products = [node for node in result if node.op == "BatchMatMulV2"]
    assert [node.attrs["adj_y"] for node in products] == [True, False] * 3
    assert all(result[node.inputs[1]].op == "GatherV2" for node in products)


@pytest.fixture(scope="module")
def pairs() -> Dict[Any, Any]:
    """Graphs before and after, made once."""
    return {}


@given(
    lengths=LENGTHS,
    strategy=st.sampled_from(STRATEGIES),
    layers=st.sampled_from([(-1,), (0,), (-2, -1)]),
    without=st.sampled_from([(), NO_QKV]),
)
@settings(max_examples=40)
def test_results_stay_what_they_were(
    pairs: Any, lengths: Any, strategy: str, layers: Any, without: Any
) -> None:
    key = (strategy, (-1,) if strategy == "CLS_POOLED" else layers, without)
    if key not in pairs:
        graph = before(*key)
        pairs[key] = (graph, gather_heads(graph).graph)
    graph, result = pairs[key]
    feeds = batch(lengths).feeds(graph.inputs)
    expected, actual = run(graph, feeds), run(result, feeds)
    # The same products of the same numbers; the order in which a BLAS adds may differ.
    np.testing.assert_allclose(actual["final_encodes"], expected["final_encodes"], atol=2e-6)


@pytest.mark.parametrize("engine", [run_onnx, run_tensorflow])
@pytest.mark.parametrize("strategy", ["NONE", "REDUCE_MEAN", "CLS_TOKEN"])
def test_engines_give_what_they_gave(engine: Any, strategy: str, tmp_path: Any) -> None:
    trained = build(random_source(), GraphOptions(strategy, (-1,)))
    graphs = [optimize(trained, pipeline(without))[0] for without in (("gather_heads",), ())]
    feeds = batch([3, 7, 1, 4]).feeds(graphs[0].inputs)
    expected, actual = [engine(one, tmp_path / "model", feeds)["final_encodes"] for one in graphs]
    np.testing.assert_allclose(actual, expected, atol=2e-6)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize(("target", "device"), [("onnx", "cpu"), ("onnx", "gpu"), ("pb", "gpu")])
def test_other_precisions(precision: str, target: str, device: str, tmp_path: Any) -> None:
    trained = build(random_source(), GraphOptions("REDUCE_MEAN", (-1,)))
    with_it, without_it = [
        optimize(trained, pipeline(without, precision, target, device))[0]
        for without in ((), ("gather_heads",))
    ]
    assert "Transpose" not in ops(with_it)
    feeds = batch([5, 2, 6]).feeds(with_it.inputs)
    expected = run(without_it, feeds)["final_encodes"]
    atol = 0.02 if (precision, device) == ("fp16", "gpu") else 2e-5
    np.testing.assert_allclose(run(with_it, feeds)["final_encodes"], expected, atol=atol)
    engine = run_onnx if target == "onnx" else run_tensorflow
    actual = engine(with_it, tmp_path / "model", feeds)["final_encodes"]
    np.testing.assert_allclose(actual, expected, atol=max(atol, 1e-4))


def test_it_is_only_in_packed_pipelines() -> None:
    assert "gather_heads" not in [name for name, _ in pipeline_for()]
    names = [name for name, _ in pipeline_for("int8", packed=True)]
    place = names.index("gather_heads")
    assert names[place - 2 : place + 2] == ["unpad", "fuse_qkv", "gather_heads", "narrow_integers"]


# ------------------------------------------------------------------------------- attention alone


class Attention(Draft):
    """What is between packed tokens and heads: ``table`` is [tokens, width], random."""

    def __init__(self, lengths: Sequence[int], heads: int, size: int, parts: int = 1) -> None:
        super().__init__()
        self.heads, self.size, self.width = heads, size, heads * size
        feeds = batch(lengths).feeds(["slots", "places", "input_mask"])
        self.slots = self.input("slots", feeds["slots"], (0,))
        self.places = self.input("places", feeds["places"], (0,))
        self.mask = self.input("input_mask", feeds["input_mask"], (0, 1))
        self.rows, self.length = feeds["input_mask"].shape
        self.random = np.random.RandomState(sum(lengths))
        self.table = self.floats("table", (sum(lengths), parts * self.width), (0,))
        self.first = self.number(0)

    def floats(self, name: str, shape: Sequence[int], open_axes: Sequence[int]) -> str:
        return self.input(name, self.random.rand(*shape).astype(np.float32), open_axes)

    def number(self, value: Any) -> str:
        return self.const(value, "int32")

    def gather(self, tensor: str, index: str, axis: int = 0, name: str = "gather") -> str:
        place = self.number(axis) if axis else self.first
        return self.op("GatherV2", (tensor, index, place), name, batch_dims=0)

    def four(self, *inner: int) -> str:
        """The shape [b, s, ...]."""
        shape = self.op("Shape", (self.mask,), dtypes={"out_type": "int32"})
        return self.op("ConcatV2", (shape, self.number(list(inner)), self.first))

    def padded(self, tensor: str, perm: Sequence[int] = (0, 2, 1, 3)) -> str:
        """[b, n, s, d] of packed tokens."""
        rows = self.op(
            "Reshape", (self.gather(tensor, self.slots), self.four(self.heads, self.size))
        )
        return self.op("Transpose", (rows, self.number(perm)))

    def context(self, name: str = "context") -> str:
        """An input [b, n, s, d] of this batch: its rows and length are those of the mask."""
        ones = self.op("Cast", (self.mask,), dtypes={"DstT": "float32"})
        for axis in (1, 3):
            ones = self.op("ExpandDims", (ones, self.number(axis)))
        return self.op("AddV2", (ones, self.const(self.random.rand(1, self.heads, 1, self.size))))

    def packed(self, heads: str, perm: Sequence[int] = (0, 2, 1, 3)) -> str:
        """[tokens, n * d] of heads."""
        turned = self.op("Transpose", (heads, self.number(perm)))
        merged = self.op("Reshape", (turned, self.number([-1, self.width])))
        return self.gather(merged, self.places)

    def check(self, *outputs: str) -> Graph:
        """The graph changes and gives the same, bit for bit: numbers are only moved."""
        graph = self.graph(outputs)
        kept = snapshot(graph)
        result = gather_heads(graph).graph
        result.validate()
        assert snapshot(graph) == kept
        assert result is not graph
        expected, actual = run(graph, self.feeds), run(result, self.feeds)
        for output in outputs:
            np.testing.assert_array_equal(actual[output], expected[output])
        return result

    def left(self, *outputs: str) -> str:
        """The graph stays as it is; returns the only note."""
        graph = self.graph(outputs)
        result = gather_heads(graph)
        assert result.graph is graph
        (note,) = result.notes
        return note


SIZES = st.integers(1, 4)


@given(lengths=LENGTHS, heads=SIZES, size=SIZES, widths=st.lists(SIZES, max_size=2))
def test_heads_of_any_batch(lengths: Any, heads: int, size: int, widths: Any) -> None:
    """Alone in their rows, or behind and before other heads."""
    draft = Attention(lengths, heads, size, 1 + sum(widths))
    part = draft.table
    if widths:
        sizes = [draft.width, *[draft.width * one for one in widths]]
        inputs = (draft.table, draft.number(sizes[::-1]), draft.number(1))
        split = draft.op("SplitV", inputs, num_split=len(sizes))
        part = "%s:%d" % (split, len(widths))
    result = draft.check(draft.padded(part))
    assert not {"SplitV", "Transpose"} & set(ops(result))


@given(lengths=LENGTHS, heads=SIZES, size=SIZES, parts=st.integers(2, 4))
def test_parts_of_any_batch(lengths: Any, heads: int, size: int, parts: int) -> None:
    draft = Attention(lengths, heads, size, parts)
    split = draft.op("Split", (draft.number(-1), draft.table), num_split=parts)
    names = [split] + ["%s:%d" % (split, index) for index in range(1, parts)]
    result = draft.check(*[draft.padded(name) for name in names])
    assert not {"Split", "Transpose"} & set(ops(result))
    assert sum(draft.table in node.inputs for node in result) == 1, "all gather from one table"


@given(lengths=LENGTHS, heads=SIZES, size=SIZES)
def test_contexts_of_any_batch(lengths: Any, heads: int, size: int) -> None:
    draft = Attention(lengths, heads, size)
    heads_of_tokens = draft.padded(draft.table)
    mixed = draft.op("AddV2", (heads_of_tokens, draft.context()))
    assert "Transpose" not in ops(draft.check(draft.packed(mixed)))
    # Padded and packed again, tokens are what they were.
    draft = Attention(lengths, heads, size)
    packed = draft.packed(draft.op("Tanh", (draft.padded(draft.table),)))
    np.testing.assert_array_equal(
        run(draft.check(packed), draft.feeds)[packed], np.tanh(draft.feeds[draft.table])
    )


@pytest.mark.parametrize("engine", [run_onnx, run_tensorflow])
def test_engines_move_numbers_alike(engine: Any, tmp_path: Any) -> None:
    draft = Attention([3, 1, 6], 3, 2, 2)
    split = draft.op("Split", (draft.number(1), draft.table), num_split=2)
    heads = draft.padded(split + ":1")
    packed = draft.packed(draft.op("AddV2", (heads, draft.context())))
    result = draft.check(heads, packed)
    for output, value in engine(result, tmp_path / "model", draft.feeds).items():
        np.testing.assert_array_equal(value, draft.values[output])


def test_tokens_that_are_padded_in_rows_first() -> None:
    draft = Attention([2, 3], 2, 4)
    rows = draft.op("Reshape", (draft.gather(draft.table, draft.slots), draft.four(8)))
    heads = draft.op("Reshape", (rows, draft.four(2, 4)))
    turned = draft.op("Transpose", (heads, draft.number([0, 2, 1, 3])))
    assert "Transpose" not in ops(draft.check(turned))


def test_tokens_with_an_axis_for_heads() -> None:
    draft = Attention([2, 3], 2, 4)
    table = draft.op("Reshape", (draft.table, draft.number([-1, 2, 4])))
    turned = draft.op("Transpose", (draft.context(), draft.number([0, 2, 1, 3])))
    merged = draft.op("Reshape", (turned, draft.number([-1, 2, 4])))
    packed = draft.gather(merged, draft.places)
    assert draft.values[packed].shape == (5, 2, 4)
    assert "Transpose" not in ops(draft.check(draft.padded(table), packed))


def test_other_spellings() -> None:
    """A mask of int64, output 0 by its full name, and what is done before a transposition."""
    draft = Attention([2, 3], 2, 4)
    draft.padded(draft.table)
    nodes = []
    for node in draft.nodes.values():
        if node.name == draft.mask:
            node = node.with_attrs(dtype=np.dtype("int64"))
        elif node.op == "Shape":
            node = node.with_attrs(T=np.dtype("int64"))
        elif node.op in ("GatherV2", "Reshape", "Transpose"):
            node = node.with_inputs([name + ":0" for name in node.inputs])
        nodes.append(node)
    nodes[-1] = nodes[-1].with_inputs([*nodes[-1].inputs, "^" + draft.mask])
    result = gather_heads(Graph(nodes, ["Transpose:0"])).graph
    assert result["Transpose"].op == "GatherV2"
    assert result["Transpose"].inputs[-1] == "^" + draft.mask
    feeds = dict(draft.feeds, input_mask=draft.feeds["input_mask"].astype(np.int64))
    actual = run(result, feeds)["Transpose:0"]
    np.testing.assert_array_equal(actual, draft.values["Transpose"])


def test_a_part_that_does_not_fit_keeps_the_split() -> None:
    draft = Attention([2, 3], 2, 4, 2)
    split = draft.op("Split", (draft.number(1), draft.table), num_split=2)
    result = draft.check(draft.padded(split), draft.op("Tanh", (split + ":1",)))
    assert (ops(result)["Split"], ops(result).get("Transpose", 0)) == (1, 0)


# ------------------------------------------------------------------------------------- left alone


@pytest.mark.parametrize("perm", [[0, 2, 3, 1], [0, 1, 3, 2]])
def test_other_transpositions(perm: List[int]) -> None:
    draft = Attention([2, 3], 2, 4)
    note = draft.left(draft.padded(draft.table, perm))
    assert note == "Transpose: Transpose transposes by %s, not [0, 2, 1, 3]" % perm
    draft = Attention([3, 3], 3, 4)
    assert "not [0, 2, 1, 3]" in draft.left(draft.packed(draft.context(), [0, 1, 2, 3]))


@pytest.mark.parametrize("name", ["gather", "Reshape"])
def test_what_is_read_elsewhere(name: str) -> None:
    draft = Attention([2, 3], 2, 4)
    heads = draft.padded(draft.table)
    assert draft.left(heads, name) == "%s: %s is read elsewhere" % (heads, name)
    assert draft.left(heads, draft.op("Tanh", (name,))).endswith("%s is read elsewhere" % name)


@pytest.mark.parametrize("name", ["Transpose", "Reshape"])
def test_a_context_that_is_read_elsewhere(name: str) -> None:
    draft = Attention([2, 3], 2, 4)
    packed = draft.packed(draft.context())
    assert draft.left(packed, name) == "%s: %s is read elsewhere" % (packed, name)


def test_splits_of_something_else() -> None:
    draft = Attention([2, 2], 2, 4)
    split = draft.op("Split", (draft.number(0), draft.table), num_split=1)
    assert draft.left(draft.padded(split)).endswith("Split isn't known to split columns")
    draft = Attention([2, 2], 2, 4, 2)
    inputs = (draft.table, draft.number([8, -1]), draft.number(1))
    split = draft.op("SplitV", inputs, num_split=2)
    assert draft.left(draft.padded(split)).endswith("SplitV isn't split by numbers")


@pytest.mark.parametrize("sizes", [(8, 1), (1, 8)])
def test_rows_that_are_not_made_of_heads(sizes: Any) -> None:
    draft = Attention([2, 2], 2, 4)
    table = draft.floats("odd", (4, 9), (0,))
    split = draft.op("SplitV", (table, draft.number(sizes), draft.number(1)), num_split=2)
    part = split if sizes[0] == 8 else split + ":1"
    note = draft.left(draft.padded(part))
    assert note.endswith("%s isn't known to hold 2 heads of 4 a token" % part)


def test_shapes_that_are_not_known() -> None:
    draft = Attention([2, 2], 2, 4)
    wide = draft.floats("wide", (4, 8), (0, 1))
    assert draft.left(draft.padded(wide)).endswith("isn't known to hold 2 heads of 4 a token")
    draft = Attention([2, 2], 2, 4)
    rows = draft.gather(draft.table, draft.slots)
    four = draft.op("Reshape", (rows, draft.input("shape", np.array([2, 2, 2, 4], np.int32))))
    note = draft.left(draft.op("Transpose", (four, draft.number([0, 2, 1, 3]))))
    assert note.endswith("isn't known to be [batch, sequence, heads, size]")
    draft = Attention([2, 2], 2, 4)
    heads = draft.floats("heads", (2, 2, 2, 4), (0, 2))
    assert draft.left(draft.packed(heads)).endswith(
        "heads isn't known to be [batch, heads, sequence, size]"
    )
    draft = Attention([2, 2], 2, 4)
    draft.width = 4
    assert draft.left(draft.gather(draft.packed(draft.context()), draft.first)).endswith(
        "the rows of Reshape aren't known to be tokens"
    )


def test_gathers_of_something_else_are_not_worth_a_note() -> None:
    draft = Attention([2, 2], 2, 4)
    hidden = draft.op("Reshape", (draft.gather(draft.table, draft.slots), draft.four(8)))
    plain = draft.gather(draft.table, draft.places)
    column = draft.floats("column", (3, 4), ())
    along = draft.gather(column, draft.places, axis=1)
    graph = draft.graph([hidden, plain, along])
    assert gather_heads(graph) == (graph, ())


def test_graphs_that_are_not_packed() -> None:
    padded, _ = optimize(build(random_source(), GraphOptions("NONE", (-1,))), pipeline_for())
    draft = Attention([2, 2], 2, 4)
    draft.padded(draft.table)
    packed = draft.graph(["Transpose"])
    slots = Node("slots", "Const", (), {"value": np.arange(4, dtype=np.int32), "dtype": np.int32})
    nodes = [slots if node.name == "slots" else node for node in packed]
    for graph in (padded, Graph(nodes, packed.outputs)):
        assert gather_heads(graph) == (graph, ("the tokens aren't packed",))
