import numpy as np
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.util.tensor_util import make_tensor_proto

from deblurkit.analysis.formats.tensorboard_values import scalars_in


def of_tensor(value, *, plugin="scalars", tag="x"):
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))
    tensor = value if isinstance(value, TensorProto) else make_tensor_proto(value)
    return Summary.Value(tag=tag, tensor=tensor, metadata=metadata)


def scalars(*values):
    return list(scalars_in(Event(summary=Summary(value=values))))


def test_several_values_of_one_event():
    values = [
        Summary.Value(tag="损失", simple_value=0.5),
        of_tensor(2.0),
        Summary.Value(tag="z", simple_value=0),
    ]
    assert scalars(*values) == [("损失", 0.5), ("x", 2.0), ("z", 0.0)]


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize(
    "kind",
    [
        np.float16,
        np.float32,
        np.float64,
        np.uint8,
        np.int8,
        np.int16,
        np.int32,
        np.uint32,
        np.int64,
        np.uint64,
    ],
)
def test_a_tensor_of_one_number_of_any_type(kind, shape):
    value = kind(1.5)  # 1 for whole numbers
    assert scalars(of_tensor(np.full(shape, value))) == [("x", float(value))]
    content = TensorProto(
        dtype=make_tensor_proto(value).dtype, tensor_content=np.full(shape, value).tobytes()
    )
    assert scalars(of_tensor(content)) == [("x", float(value))]


@pytest.mark.parametrize(
    "value",
    [
        of_tensor(np.arange(3.0)),
        of_tensor("words"),
        of_tensor(True),
        of_tensor(1.0, plugin="histograms"),
        of_tensor(1.0, tag=""),
        of_tensor(TensorProto(dtype=1)),
        of_tensor(TensorProto(dtype=1, tensor_content=b"\0\0\0")),
        Summary.Value(tag="x"),
        Summary.Value(tag="", simple_value=1.0),
    ],
)
def test_what_is_no_scalar_is_left_out(value):
    assert scalars(value) == []


def test_an_event_without_a_summary():
    assert list(scalars_in(Event(file_version="brain.Event:2"))) == []
