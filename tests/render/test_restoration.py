from deblurkit.render.restoration import restoration_as_text
from deblurkit.training.restore import Restoration
from deblurkit.training.tiling import Tile

DONE = {
    "output": "out",
    "frames": 12,
    "restored": 12,
    "height": 720,
    "width": 1280,
    "tile": Tile(6, 360, 640),
    "overlap": Tile(2, 24, 24),
    "tiles": 18,
    "spikes": "recorded",
    "device": "cpu",
    "seconds": 75.0,
    "peak_bytes": 3 * 2**30,
    "video": None,
}


def test_the_lines_say_what_where_and_at_what_price():
    first, second = restoration_as_text(Restoration(**DONE)).splitlines()
    assert first == "12 frames of 720 x 1280 px with spikes -> out"
    assert second == (
        "1 min 15 s on cpu, 18 tiles of at most 6 x 360 x 640 (frames x rows x columns), peak memory 3.00 GiB"
    )


def test_what_was_there_and_a_video_are_named():
    text = restoration_as_text(Restoration(**{**DONE, "restored": 1, "spikes": "none", "video": "out/a.mp4"}))
    assert text.startswith("1 frame of 720 x 1280 px without spikes (11 more were there) -> out\n")
    assert text.endswith("\nVideo: out/a.mp4")
