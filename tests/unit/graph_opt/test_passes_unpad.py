from __future__ import annotations

from typing import Any, Dict, List

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.graph_opt.draft import Draft
from unit.graph_opt.engines import run_onnx, run_tensorflow
from unit.graph_opt.support import (
    CASES,
    GOLDEN,
    GOOGLE,
    HUGGING_FACE,
    TOLERANCE,
    golden_case,
    ops,
    options_of,
    random_source,
    snapshot,
)

from bert_serving.graph_opt.graph import Graph, Node
from bert_serving.graph_opt.interpreter import run
from bert_serving.graph_opt.passes.first_row import first_row
from bert_serving.graph_opt.passes.unpad import unpad
from bert_serving.graph_opt.pipeline import PIPELINE, GraphOptions, build, optimize, pipeline_for
from bert_serving.graph_opt.sources import read_model
from bert_serving.server.engines import Features

OUTPUT = "final_encodes"
STRATEGIES = (
    "NONE",
    "REDUCE_MEAN",
    "REDUCE_MAX",
    "REDUCE_MEAN_MAX",
    "CLS_TOKEN",
    "LAST_TOKEN",
    "CLS_POOLED",
)
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def batch(lengths: List[int], seed: int = 0, vocabulary: int = 11) -> Features:
    """Random rows; now and then a token is masked, but never all of a row."""
    random, count = np.random.RandomState(seed), sum(lengths)
    mask = (random.rand(count) > 0.2) | (np.repeat(lengths, lengths) == 1)
    mask[np.cumsum(lengths) - 1] = True
    tokens = [random.randint(0, vocabulary, count), random.randint(0, 2, count), mask]
    return Features(np.array(tokens, np.int32), np.array(lengths, np.int32))


def optimized(options: GraphOptions, packed: bool, source: Any = None) -> Graph:
    trained = build(source or random_source(), options)
    return optimize(trained, pipeline_for(packed=packed))[0]


def before_unpad(options: GraphOptions) -> Graph:
    """A graph as the pass gets it."""
    names = [name for name, _ in PIPELINE]
    trained = build(random_source(), options)
    return optimize(trained, PIPELINE[: names.index("fuse_qkv")])[0]


def result(graph: Graph, features: Features) -> np.ndarray:
    return run(graph, features.feeds(graph.inputs))[OUTPUT]


def packed_feeds(features: Features, graph: Graph) -> Dict[str, np.ndarray]:
    """Also for graphs that don't need to know where padding is."""
    names = ("input_ids", "input_mask", "input_type_ids", "places", "positions", "slots")
    return {name: value for name, value in features.feeds(names).items() if name in graph.inputs}


def assert_equal_results(padded: Graph, packed: Graph, features: Features) -> None:
    expected = result(padded, features)
    actual = result(packed, features)
    if expected.ndim == 3:
        expected = expected[features.valid]
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.fixture(scope="module")
def graphs() -> Dict[GraphOptions, Any]:
    """Padded and packed graphs, made once."""
    return {}


def pair(graphs: Dict[GraphOptions, Any], options: GraphOptions) -> Any:
    if options not in graphs:
        graphs[options] = (optimized(options, False), optimized(options, True))
    return graphs[options]


@given(
    lengths=LENGTHS,
    seed=st.integers(0, 99),
    strategy=st.sampled_from(STRATEGIES),
    layers=st.sampled_from([(-1,), (0,), (-2, -1), (0, 1, 2)]),
    positions=st.booleans(),
)
@settings(max_examples=60)
def test_packed_rows_give_what_padded_ones_give(
    graphs: Any, lengths: Any, seed: int, strategy: str, layers: Any, positions: bool
) -> None:
    options = GraphOptions(strategy, layers, position_embeddings=positions)
    assert_equal_results(*pair(graphs, options), batch(lengths, seed))


@given(lengths=LENGTHS, strategy=st.sampled_from(STRATEGIES))
@settings(max_examples=20)
def test_a_row_does_not_depend_on_its_company(graphs: Any, lengths: Any, strategy: str) -> None:
    packed = pair(graphs, GraphOptions(strategy, (-1,)))[1]
    features = batch(lengths)
    together, alone = result(packed, features), []
    for start, length in zip(features.starts, lengths):
        row = features.tokens[:, start : start + length]
        alone.append(result(packed, Features(row, np.array([length], np.int32))))
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)


def case_features(feeds: Dict[str, np.ndarray]) -> Features:
    """The reference's rows without what it padded them by, where the mask ends."""
    mask = feeds["input_mask"]
    lengths = np.maximum(1, (mask * np.arange(1, mask.shape[1] + 1)).max(axis=1)).astype(np.int32)
    valid = np.arange(mask.shape[1]) < lengths[:, None]
    names = ("input_ids", "input_type_ids", "input_mask")
    return Features(np.stack([feeds[name][valid] for name in names]), lengths)


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case["flags"]))
def test_every_engine_gives_what_1_10_gave(case: Any, tmp_path: Any) -> None:
    feeds, expected = golden_case(case)
    features = case_features(feeds)
    if expected.ndim == 3:
        assert not expected[~_valid(features, expected.shape[1])].any()
        expected = expected[_valid(features, expected.shape[1])]
    graph = optimized(options_of(case["flags"]), True, read_model(GOOGLE))
    assert "slots" in graph.inputs
    packed = features.feeds(graph.inputs)
    results = [run(graph, packed)]
    for engine, name in ((run_onnx, "model.onnx"), (run_tensorflow, "model.pb")):
        try:
            results.append(engine(graph, tmp_path / name, packed))
        except pytest.skip.Exception:
            continue
    assert len(results) > 1
    for one in results:
        assert one[OUTPUT].shape == expected.shape
        assert np.abs(one[OUTPUT] - expected).max() <= TOLERANCE


def _valid(features: Features, longest: int) -> np.ndarray:
    return np.arange(longest) < features.lengths[:, None]


@pytest.mark.parametrize("layer", range(4))
def test_layers_are_those_of_transformers(layer: int, tmp_path: Any) -> None:
    with np.load(str(GOLDEN / "hf" / "hf-tiny.npz")) as data:
        mask, ids, hidden = data["mask"], data["ids"], data["hidden_%d" % (layer + 1)]
    keep = mask.astype(bool)
    tokens = np.stack([ids[keep], ids[keep] * 0, mask[keep]]).astype(np.int32)
    features = Features(tokens, mask.sum(axis=1).astype(np.int32))
    graph = optimized(GraphOptions("NONE", (layer,)), True, read_model(HUGGING_FACE))
    actual = result(graph, features)
    assert np.abs(actual - hidden[keep]).max() <= TOLERANCE


# ------------------------------------------------------------------------------ the structure


def test_all_weights_are_multiplied_by_packed_tokens() -> None:
    graph = before_unpad(GraphOptions("REDUCE_MEAN", (-1,)))
    kept = snapshot(graph)
    packed, notes = unpad(graph)
    assert snapshot(graph) == kept
    assert ops(packed)["MatMul"] == ops(graph)["MatMul"] == 18
    assert notes == ("18 products on packed tokens",)
    # Query, key and value of each layer are padded, the context packed again; and embeddings,
    # positions, pooling.
    gathers = [node.inputs[1] for node in packed if node.op == "GatherV2"]
    assert (gathers.count("slots"), gathers.count("places")) == (3 * 3 + 1, 3)
    assert gathers.count("positions") == 1
    assert packed.inputs == graph.inputs + ("positions", "places", "slots")
    assert packed.outputs == graph.outputs
    shapes = {name: packed[name].attrs["shape"] for name in packed.inputs}
    assert shapes.pop("input_mask") == (None, None)
    assert set(shapes.values()) == {(None,)}


def test_vectors_of_tokens_are_never_padded() -> None:
    packed, notes = unpad(before_unpad(GraphOptions("NONE", (-1,))))
    gathers = [node.inputs[1] for node in packed if node.op == "GatherV2"]
    # The mask that they are multiplied by is packed, too.
    assert (gathers.count("slots"), gathers.count("places")) == (3 * 3, 3 + 1)
    assert notes[1:] == ("final_encodes: a vector a token, packed",)


@pytest.mark.parametrize(
    ("strategy", "op"), [("CLS_TOKEN", "GatherV2"), ("LAST_TOKEN", "GatherNd")]
)
def test_single_tokens_are_chosen_among_the_packed_ones(strategy: str, op: str) -> None:
    packed, _ = unpad(before_unpad(GraphOptions(strategy, (-1, 0))))
    chosen = [node for node in packed if node.inputs[:1] == ("slots/rows",)]
    assert {node.op for node in chosen} == {op}
    assert all(node.attrs["Tparams"] == np.dtype("int32") for node in chosen)


def test_it_goes_with_the_narrowing_to_the_first_row() -> None:
    graph = before_unpad(GraphOptions("CLS_TOKEN", (-1,)))
    assert first_row(graph).graph is graph, "it was narrowed already"
    packed, _ = unpad(graph)
    # In the last layer only keys and values are of all tokens.
    gathers = [node.inputs[1] for node in packed if node.op == "GatherV2"]
    assert (gathers.count("slots"), gathers.count("places")) == (2 * 3 + 2, 2)


def test_a_graph_without_positions_has_no_input_for_them() -> None:
    packed, _ = unpad(before_unpad(GraphOptions("NONE", (-1,), position_embeddings=False)))
    assert packed.inputs[3:] == ("places", "slots")


def test_it_is_only_in_the_pipeline_if_asked_for() -> None:
    assert [name for name, _ in pipeline_for(packed=False)] == [name for name, _ in PIPELINE]
    names = [name for name, _ in pipeline_for("int8", packed=True)]
    assert names.index("first_row") < names.index("unpad") < names.index("fuse_qkv")
    assert names[-2:] == ["quantize", "prune"]


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precisions_of_packed_graphs(precision: str) -> None:
    trained = build(random_source(), GraphOptions("REDUCE_MEAN", (-1,)))
    features = batch([3, 9, 1, 5])
    padded, packed = [
        optimize(trained, pipeline_for(precision, packed=packed))[0] for packed in (False, True)
    ]
    np.testing.assert_allclose(result(packed, features), result(padded, features), atol=0.05)


# ------------------------------------------------------------------------------ other graphs


class Text(Draft):
    """A graph over two rows, of three tokens and of one."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = self.input("input_ids", np.array([[1, 2, 3], [4, 0, 0]], np.int32), (0, 1))
        self.mask = self.input("input_mask", np.array([[1, 1, 1], [1, 0, 0]], np.int32), (0, 1))
        self.features = Features(
            np.array([[1, 2, 3, 4], [0, 0, 0, 0], [1, 1, 1, 1]], np.int32),
            np.array([3, 1], np.int32),
        )

    def number(self, value: Any) -> str:
        return self.const(value, "int32")

    def words(self) -> str:
        """[b, s, 4]."""
        table = self.const(np.arange(20).reshape(5, 4) / 10)
        return self.op("GatherV2", (table, self.ids, self.number(0)), batch_dims=0)

    def dense(self, tensor: str) -> str:
        """[b*s, 4] of [b, s, 4]."""
        rows = self.op("Reshape", (tensor, self.number([-1, 4])))
        kernel = self.const(np.linspace(-1, 1, 16).reshape(4, 4))
        return self.op("MatMul", (rows, kernel), transpose_a=False, transpose_b=False)

    def shape_of_words(self) -> str:
        shape = self.op("Shape", (self.ids,), dtypes={"out_type": "int32"})
        return self.op("ConcatV2", (shape, self.number([4]), self.number(0)))

    def column(self) -> str:
        """[b, s, 1]: the mask."""
        floats = self.op("Cast", (self.mask,), dtypes={"DstT": "float32"})
        return self.op("ExpandDims", (floats, self.number(-1)))

    def check(self, output: str, expected_ops: Any = None) -> Graph:
        """Both graphs give the same; returns the packed one."""
        graph = self.graph([output])
        packed, _ = unpad(graph)
        assert packed is not graph
        expected = self.values[output]
        if expected.shape[:2] == (2, 3):
            expected = expected[self.features.valid]
        elif expected.shape[:1] == (6,):
            expected = expected[self.features.valid.ravel()]
        feeds = packed_feeds(self.features, packed)
        np.testing.assert_allclose(run(packed, feeds)[output], expected, rtol=1e-5)
        return packed


def test_rows_are_padded_before_what_mixes_tokens() -> None:
    text = Text()
    hidden = text.op("Reshape", (text.dense(text.words()), text.shape_of_words()))
    masked = text.op("Mul", (hidden, text.column()))
    packed = text.check(text.op("Sum", (masked, text.number([1])), keep_dims=False))
    assert packed[masked].inputs[0] != hidden, "what is masked is masked in padded form"


def test_what_a_mask_made_zero_stays_so() -> None:
    """The masked tensor is also read where it could stay packed."""
    text = Text()
    hidden = text.op("Reshape", (text.dense(text.words()), text.shape_of_words()))
    masked = text.op("Tanh", (text.op("Mul", (hidden, text.column())),))
    total = text.op("Sum", (text.dense(masked), text.number([0])), keep_dims=False)
    maximum = text.op("Max", (masked, text.number([0, 1])), keep_dims=False)
    text.check(text.op("AddV2", (total, maximum)))


def test_what_a_mask_made_zero_is_packed_where_nothing_is_padded_again() -> None:
    text = Text()
    hidden = text.op("Reshape", (text.dense(text.words()), text.shape_of_words()))
    packed = text.check(text.op("Mul", (text.column(), hidden)))
    assert ops(packed)["GatherV2"] == 2  # words, the mask


@pytest.mark.parametrize(
    ("op", "attrs"), [("Max", {"keep_dims": True}), ("Mean", {"keep_dims": False})]
)
@pytest.mark.parametrize("axis", [[2], [-1], 2])
def test_axes_behind_the_tokens(op: str, attrs: Any, axis: Any) -> None:
    text = Text()
    hidden = text.op("Reshape", (text.dense(text.words()), text.shape_of_words()))
    packed = text.check(text.op(op, (hidden, text.number(axis)), **attrs))
    assert "slots" not in packed


def test_moving_dimensions_behind_the_tokens() -> None:
    text = Text()
    rows = text.dense(text.words())
    shape = text.op("Shape", (text.ids,), dtypes={"out_type": "int32"})
    heads = text.op("ConcatV2", (shape, text.number([2, 2]), text.number(0)))
    split = text.op("Reshape", (rows, heads))
    turned = text.op("Transpose", (split, text.number([0, 1, 3, 2])))
    more = text.op("ExpandDims", (turned, text.number(2)))
    packed = text.check(text.op("ConcatV2", (more, more, text.number(4))))
    assert "slots" not in packed


@pytest.mark.parametrize("perm", [[1, 0, 2], [0, 2, 1]])
def test_tokens_that_are_moved_are_padded_before(perm: List[int]) -> None:
    text = Text()
    hidden = text.op("Reshape", (text.dense(text.words()), text.shape_of_words()))
    turned = text.op("Transpose", (hidden, text.number(perm)))
    weights = text.const(np.ones((3, 3) if perm[-1] == 1 else (4, 4)))
    product = text.op("BatchMatMulV2", (turned, weights), adj_x=False, adj_y=False)
    column = text.op("Transpose", (text.column(), text.number(perm)))
    masked = text.op("Mul", (turned, column))
    axes = text.number([0, 1, 2])
    assert product
    text.check(text.op("Sum", (masked, axes), keep_dims=False))


def test_operands_that_depend_on_the_position_alone() -> None:
    for shape in ((3, 4), (1, 3, 4)):
        text = Text()
        length = text.op(
            "StridedSlice",
            (
                text.op("Shape", (text.ids,), dtypes={"out_type": "int32"}),
                text.number([1]),
                text.number([2]),
                text.number([1]),
            ),
            shrink_axis_mask=1,
        )
        steps = text.op("Range", (text.number(0), length, text.number(1)))
        table = text.const(np.arange(20).reshape(5, 4))
        places = text.op("GatherV2", (table, steps, text.number(0)), batch_dims=0)
        if len(shape) == 3:
            places = text.op("ExpandDims", (places, text.number(0)))
        packed = text.check(text.dense(text.op("AddV2", (text.words(), places))))
        assert "positions" in packed.inputs


def test_operands_that_are_the_same_for_all_tokens() -> None:
    for shape in ((1, 1, 4), (1, 4), (4,), ()):
        text = Text()
        value = text.const(np.full(shape, 3.0))
        text.check(text.dense(text.op("Mul", (value, text.words()))))


def test_one_hot_tokens() -> None:
    text = Text()
    flat = text.op("Reshape", (text.ids, text.number([-1])))
    hot = text.op("OneHot", (flat, text.number(5), text.const(1.0), text.const(0.0)), axis=-1)
    kernel = text.const(np.linspace(-1, 1, 20).reshape(5, 4))
    rows = text.op("MatMul", (hot, kernel), transpose_a=False, transpose_b=False)
    packed = text.check(text.op("Reshape", (rows, text.shape_of_words())))
    assert "slots" not in packed


def test_shapes_of_packed_tensors_are_what_they_were() -> None:
    text = Text()
    rows = text.dense(text.words())
    shape = text.op("Shape", (rows,), dtypes={"out_type": "int64"})
    size = text.op("Cast", (shape,), dtypes={"DstT": "float32"})
    text.check(text.op("AddV2", (text.op("Max", (size, text.number([0])), keep_dims=True), size)))
    text = Text()
    hidden = text.op("Reshape", (text.dense(text.words()), text.shape_of_words()))
    text.check(text.op("Shape", (text.op("Tanh", (hidden,)),), dtypes={"out_type": "int32"}))


# ------------------------------------------------------------------------------ left alone


def without(graph: Graph, name: str) -> Graph:
    inputs = [one for one in graph.inputs if one != name]
    return Graph(graph, graph.outputs, graph.variables, inputs)


def test_graphs_that_are_left_alone() -> None:
    graph = before_unpad(GraphOptions("REDUCE_MEAN", (0,)))
    fixed = graph.replaced(
        nodes=[
            node.with_attrs(shape=(None, 5)) if node.name == "input_ids" else node for node in graph
        ]
    )
    slots = Node("slots", "Placeholder", (), {"dtype": np.dtype("int32"), "shape": (None,)})
    named = graph.replaced(nodes=[*graph, slots])
    for other, note in (
        (without(graph, "input_mask"), "there is no input input_mask"),
        (fixed, "the input input_ids isn't [batch, sequence] with both open"),
        (named, "there is a node slots already"),
    ):
        result = unpad(other)
        assert result.graph is other
        assert result.notes == (note,)
    text = Text()
    lookup = text.graph([text.words()])
    assert unpad(lookup).graph is lookup
    assert unpad(lookup).notes == ("no product is of tokens and weights: nothing is packed",)
