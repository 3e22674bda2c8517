from deblurkit.data.unified import DatasetSummary
from deblurkit.render.dataset import dataset_as_text


def test_a_dataset_is_told_in_six_lines():
    summary = DatasetSummary("data/森林", 8, 2, 64, 16, (96, 128), (48, 64), 0.2531, 6_186_598)
    assert dataset_as_text(summary).splitlines() == [
        "dataset  data/森林",
        "train    8 sequences, 64 frames",
        "test     2 sequences, 16 frames",
        "frames   96x128",
        "spikes   48x64, 25.3 % of bits set",
        "size     5.9 MiB",
    ]
