from __future__ import annotations

import pytest
from unit.graph_opt.engines import import_tensorflow
from unit.graph_opt.support import GOLDEN

from bert_serving.graph_opt import tf_messages
from bert_serving.graph_opt.tf_messages import (
    AttrValue,
    GraphDef,
    MessageError,
    MetaGraphDef,
    NodeDef,
    decoded,
)

META = GOLDEN / "tf1-tiny" / "classifier" / "model.ckpt-7.meta"
THEIRS = {
    "graph_pb2": "GraphDef",
    "node_def_pb2": "NodeDef",
    "attr_value_pb2": "AttrValue",
    "tensor_pb2": "TensorProto",
    "tensor_shape_pb2": "TensorShapeProto",
    "function_pb2": "FunctionDef",
    "op_def_pb2": "OpDef",
}
THEIR_PROTOBUF = {
    "meta_graph_pb2": ("MetaGraphDef", "SignatureDef", "TensorInfo"),
    "saver_pb2": ("SaverDef",),
    "saved_model_pb2": ("SavedModel",),
}


def pairs():
    """(our class, TensorFlow's) for each message that TensorFlow exports by name."""
    import importlib

    import_tensorflow()
    places = [("framework", module, name) for module, name in THEIRS.items()]
    places += [
        ("protobuf", module, name) for module, names in THEIR_PROTOBUF.items() for name in names
    ]
    for folder, module, name in places:
        found = importlib.import_module("tensorflow.core.%s.%s" % (folder, module))
        yield getattr(tf_messages, name), getattr(found, name)


def is_repeated(field):
    known = getattr(field, "is_repeated", None)  # protobuf 6 and later
    return known if isinstance(known, bool) else field.label == field.LABEL_REPEATED


def compared(ours, theirs, seen):
    """All fields that we define must be TensorFlow's, down to the messages in them."""
    if ours.full_name in seen:
        return
    seen.add(ours.full_name)
    for field in ours.fields:
        other = theirs.fields_by_number[field.number]
        assert other.name == field.name, ours.full_name
        assert is_repeated(other) == is_repeated(field), field.full_name
        if other.type == other.TYPE_ENUM:
            assert field.type == field.TYPE_INT32, field.full_name
        elif (ours.name, field.name) == ("MetaGraphDef", "object_graph_def"):
            assert field.type == field.TYPE_BYTES  # its content doesn't matter
        else:
            assert other.type == field.type, field.full_name
        if field.message_type is not None:
            compared(field.message_type, other.message_type, seen)


def test_the_fields_are_tensorflows():
    seen = set()
    for ours, theirs in pairs():
        compared(ours.DESCRIPTOR, theirs.DESCRIPTOR, seen)
    assert len(seen) > 20


def test_tensorflow_reads_the_same_bytes():
    import_tensorflow()
    from tensorflow.core.protobuf import meta_graph_pb2

    data = META.read_bytes()
    ours, theirs = MetaGraphDef.FromString(data), meta_graph_pb2.MetaGraphDef.FromString(data)
    assert len(ours.graph_def.node) == len(theirs.graph_def.node) == 4998
    back = meta_graph_pb2.MetaGraphDef.FromString(ours.SerializeToString())
    # Compared as bytes, as a message isn't equal to itself if there is a NaN in it.
    one, other = (message.SerializeToString(deterministic=True) for message in (back, theirs))
    assert one == other


def test_an_attribute_knows_its_kind_even_when_zero():
    for kind in ("i", "f", "b", "s", "type"):
        zero = AttrValue(**{kind: b"" if kind == "s" else 0})
        value = AttrValue.FromString(zero.SerializeToString())
        assert value.WhichOneof("value") == kind
    value.i = 1
    assert value.WhichOneof("value") == "i"


def test_unknown_fields_are_tolerated():
    """Field 1000 of newer definitions, and one that is left out here (NodeDef.6)."""
    data = NodeDef(name="n", op="NoOp").SerializeToString()
    node = NodeDef.FromString(data + b"\x32\x02\x0a\x00" + b"\xc2\x3e\x03abc")
    assert (node.name, node.op) == ("n", "NoOp")


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x05\x0a\x02\xff\xfe\x00", b"\xff" * 11])
def test_damaged_bytes(data):
    with pytest.raises(MessageError):
        decoded(GraphDef, data)
