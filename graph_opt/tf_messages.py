"""TensorFlow's protobuf messages, as far as graphs and saved models need them.

The definitions are compatible on the wire with tensorflow/core/framework/{graph, node_def,
attr_value, tensor, tensor_shape, function, op_def, versions}.proto and tensorflow/core/protobuf/
{meta_graph, saver, saved_model}.proto; fields that nothing here reads are left out, which parsing
tolerates. They live in a package and a descriptor pool of their own, so that TensorFlow itself may
be loaded in the same process.
"""

from __future__ import annotations

import re
import warnings
from typing import Any, Dict

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

__all__ = [
    "AttrValue",
    "FunctionDef",
    "GraphDef",
    "MessageError",
    "MetaGraphDef",
    "NodeDef",
    "OpDef",
    "SavedModel",
    "SaverDef",
    "SignatureDef",
    "TensorInfo",
    "TensorProto",
    "TensorShapeProto",
    "decoded",
]

_PACKAGE = "bert_serving.tf"

# One message a paragraph; "field number type", where the type may begin with "repeated" or be a
# map. Fields after "oneof NAME" exclude each other. Enumerations are said as int32: on the wire
# they are the same.
_SCHEMA = """
message GraphDef
node 1 repeated NodeDef
library 2 FunctionDefLibrary
version 3 int32
versions 4 VersionDef

message VersionDef
producer 1 int32
min_consumer 2 int32
bad_consumers 3 repeated int32

message NodeDef
name 1 string
op 2 string
input 3 repeated string
device 4 string
attr 5 map string AttrValue

message AttrValue
oneof value
list 1 ListValue
s 2 bytes
i 3 int64
f 4 float
b 5 bool
type 6 int32
shape 7 TensorShapeProto
tensor 8 TensorProto
placeholder 9 string
func 10 NameAttrList

message ListValue
s 2 repeated bytes
i 3 repeated int64
f 4 repeated float
b 5 repeated bool
type 6 repeated int32
shape 7 repeated TensorShapeProto
tensor 8 repeated TensorProto
func 9 repeated NameAttrList

message NameAttrList
name 1 string
attr 2 map string AttrValue

message TensorShapeProto
dim 2 repeated Dim
unknown_rank 3 bool

message Dim
size 1 int64
name 2 string

message TensorProto
dtype 1 int32
tensor_shape 2 TensorShapeProto
version_number 3 int32
tensor_content 4 bytes
float_val 5 repeated float
double_val 6 repeated double
int_val 7 repeated int32
string_val 8 repeated bytes
scomplex_val 9 repeated float
int64_val 10 repeated int64
bool_val 11 repeated bool
dcomplex_val 12 repeated double
half_val 13 repeated int32
uint32_val 16 repeated uint32
uint64_val 17 repeated uint64

message FunctionDefLibrary
function 1 repeated FunctionDef

message FunctionDef
signature 1 OpDef
node_def 3 repeated NodeDef
ret 4 map string string
attr 5 map string AttrValue
control_ret 6 map string string

message OpDef
name 1 string
input_arg 2 repeated ArgDef
output_arg 3 repeated ArgDef
attr 4 repeated AttrDef
is_stateful 17 bool
control_output 20 repeated string

message ArgDef
name 1 string
type 3 int32
type_attr 4 string
number_attr 5 string
type_list_attr 6 string
is_ref 16 bool

message AttrDef
name 1 string
type 2 string
default_value 3 AttrValue

message OpList
op 1 repeated OpDef

message MetaInfoDef
meta_graph_version 1 string
stripped_op_list 2 OpList
tags 4 repeated string
tensorflow_version 5 string
stripped_default_attrs 7 bool

message MetaGraphDef
meta_info_def 1 MetaInfoDef
graph_def 2 GraphDef
saver_def 3 SaverDef
collection_def 4 map string CollectionDef
signature_def 5 map string SignatureDef
object_graph_def 7 bytes

message SaverDef
filename_tensor_name 1 string
save_tensor_name 2 string
restore_op_name 3 string
sharded 5 bool
version 7 int32

message CollectionDef
oneof kind
node_list 1 NodeList
bytes_list 2 BytesList

message NodeList
value 1 repeated string

message BytesList
value 1 repeated bytes

message SignatureDef
inputs 1 map string TensorInfo
outputs 2 map string TensorInfo
method_name 3 string

message TensorInfo
oneof encoding
name 1 string
oneof
dtype 2 int32
tensor_shape 3 TensorShapeProto

message SavedModel
saved_model_schema_version 1 int64
meta_graphs 2 repeated MetaGraphDef
"""

_SCALARS = ("bool", "bytes", "double", "float", "int32", "int64", "string", "uint32", "uint64")
_FIELD = re.compile(r"(?P<name>\w+) (?P<number>\d+) (?P<kind>repeated |map )?(?P<types>[\w ]+)")


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="bert_serving/tf_messages.proto", package=_PACKAGE, syntax="proto3"
    )
    for paragraph in _SCHEMA.strip().split("\n\n"):
        lines = paragraph.split("\n")
        message = file.message_type.add(name=lines[0].split()[1])
        oneof = False
        for line in lines[1:]:
            if line.startswith("oneof"):
                names = line.split()[1:]
                oneof = bool(names)
                if oneof:
                    message.oneof_decl.add(name=names[0])
                continue
            _add_field(message, line)
            if oneof:
                message.field[-1].oneof_index = 0
    return file


def _add_field(message: Any, line: str) -> None:
    match = _FIELD.match(line)
    assert match, line
    name, number, kind = match.group("name"), int(match.group("number")), match.group("kind")
    types = match.group("types").split()
    field = message.field.add(name=name, number=number, label=3 if kind else 1)
    if kind != "map ":
        _set_type(field, types[0])
        return
    entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
    entry.options.map_entry = True
    for position, part in enumerate(("key", "value"), 1):
        _set_type(entry.field.add(name=part, number=position, label=1), types[position - 1])
    _set_type(field, message.name + "." + entry.name)


def _set_type(field: Any, name: str) -> None:
    if name in _SCALARS:
        field.type = field.Type.Value("TYPE_" + name.upper())
    else:
        field.type = field.TYPE_MESSAGE
        field.type_name = ".%s.%s" % (_PACKAGE, name)


def _classes() -> Dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    file = _file()
    pool.AddSerializedFile(file.SerializeToString())
    descriptors = {
        message.name: pool.FindMessageTypeByName(_PACKAGE + "." + message.name)
        for message in file.message_type
    }
    if hasattr(message_factory, "GetMessageClass"):
        return {name: message_factory.GetMessageClass(one) for name, one in descriptors.items()}
    factory = message_factory.MessageFactory(pool)  # protobuf before 4.22
    return {name: factory.GetPrototype(one) for name, one in descriptors.items()}


_CLASSES = _classes()

AttrValue: Any = _CLASSES["AttrValue"]
FunctionDef: Any = _CLASSES["FunctionDef"]
GraphDef: Any = _CLASSES["GraphDef"]
MetaGraphDef: Any = _CLASSES["MetaGraphDef"]
NodeDef: Any = _CLASSES["NodeDef"]
OpDef: Any = _CLASSES["OpDef"]
SavedModel: Any = _CLASSES["SavedModel"]
SaverDef: Any = _CLASSES["SaverDef"]
SignatureDef: Any = _CLASSES["SignatureDef"]
TensorInfo: Any = _CLASSES["TensorInfo"]
TensorProto: Any = _CLASSES["TensorProto"]
TensorShapeProto: Any = _CLASSES["TensorShapeProto"]


class MessageError(ValueError):
    """The bytes aren't such a message. Translated by whoever knows the file."""


def decoded(message: Any, data: bytes) -> Any:
    """The message, of one of the classes above, that the bytes hold.

    Raises:
        MessageError: they are damaged, or hold something else.
    """
    result = message()
    # protobuf 3.20 only warns of what follows a stray end of a group, and leaves it unread.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        try:
            result.ParseFromString(data)
        # The implementation in Python tells of wrong UTF-8 by a UnicodeDecodeError.
        except (DecodeError, UnicodeDecodeError) as error:
            raise MessageError(str(error)) from error
    if caught:
        raise MessageError(str(caught[0].message))
    return result
