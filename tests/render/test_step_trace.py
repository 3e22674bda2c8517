import json

from deblurkit.render.step_trace import profile_as_trace
from deblurkit.training.profiling.partition import Piece
from deblurkit.training.profiling.records import Subject
from deblurkit.training.profiling.summary import Measured, summarise

SUBJECT = Subject("vrt", 1, "cpu", "CPU", "fp32", (1, 2, 3, 8, 8), None, 1, "synthetic", False)


def step(begin):
    return [
        Piece("forward", "VRT处理/Stage1", "", (begin,), (begin + 0.3,)),
        Piece("backward", "VRT处理/Stage1", "attention", (begin + 0.3,), (begin + 0.5,)),
    ]


def test_bars_lie_inside_their_step_with_names_intact():
    profile = summarise(Measured(SUBJECT, 0, [step(0.0), step(1.0)], [0.6, 0.6]))
    text = profile_as_trace(profile)
    assert "VRT处理" in text
    bars = [event for event in json.loads(text)["traceEvents"] if event["ph"] == "X"]
    named = [(bar["name"], bar["ts"], bar["dur"]) for bar in bars if bar["ts"] < 1e6]
    assert named == [
        ("step 1", 0.0, 500000.0),
        ("forward", 0.0, 300000.0),
        ("VRT处理", 0.0, 300000.0),
        ("Stage1", 0.0, 300000.0),
        ("backward", 300000.0, 200000.0),
        ("VRT处理", 300000.0, 200000.0),
        ("Stage1", 300000.0, 200000.0),
        ("recompute", 300000.0, 200000.0),
    ]
    assert (
        bars[len(named)]["name"] == "step 2"
        and bars[-1]["args"]["path"] == "backward/VRT处理/Stage1/recompute"
    )
