"""Schemes A and B against the figures written in the seeds."""

from deblurkit.config.load import load_config
from deblurkit.tuning.recommend.schemes import schemes_of


def model(preset, *overrides):
    return load_config(preset, None, overrides, warn=lambda text: None).model


def test_the_gopro_network_gets_the_figures_of_the_seeds():
    found = schemes_of(model("baseline"))
    assert found["A"] == {
        "MODEL.VRT_DEPTHS": [8, 7, 8, 8, 4, 4, 4, 6],
        "MODEL.WINDOW_SIZE": 7,
        "MODEL.FUSE.CHUNK_SIZE": 80,
        "MODEL.FUSE.MAX_BATCH_TOKENS": 65536,
    }
    assert found["B"] == {
        "MODEL.VRT_DEPTHS": [8, 6, 6, 8, 4, 4, 4, 4],
        "MODEL.WINDOW_SIZE": 6,
        "MODEL.FUSE.CHUNK_SIZE": 96,
        "MODEL.FUSE.MAX_BATCH_TOKENS": 65536,
        "MODEL.SPIKE_TSA.CHUNK_SIZE": 96,
        "MODEL.SPIKE_TSA.MAX_BATCH_TOKENS": 65536,
    }


def test_other_networks_lose_blocks_in_the_same_stages_and_keep_one_everywhere():
    found = schemes_of(model("baseline", "MODEL.VRT_DEPTHS=[4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 1]"))
    assert found["A"]["MODEL.VRT_DEPTHS"] == [4, 3, 4, 4, 2, 2, 2, 1, 1, 1, 1]
    assert found["B"]["MODEL.VRT_DEPTHS"] == [4, 3, 3, 4, 2, 2, 2, 1, 1, 1, 1]


def test_the_frames_of_a_window_stay():
    assert schemes_of(model("quickstart_vrt"))["A"]["MODEL.WINDOW_SIZE"] == [2, 3, 3]
