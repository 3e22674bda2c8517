from deblurkit.training.profiling.torch_trace import renamed


def test_ids_become_the_rows_names_again():
    document = {"traceEvents": [{"name": "deblurkit_row_0"}, {"name": "aten::mm"}, {}]}
    events = renamed(document, {"deblurkit_row_0": "VRT处理/Stage1"})["traceEvents"]
    assert [event["name"] for event in events] == ["VRT处理/Stage1", "aten::mm", ""]
