import pytest

from deblurkit.data.layouts.detect import detect_layout, layout_named, read_convertible
from deblurkit.errors import DataError, UsageError

TREES = {
    "gopro": "gopro",
    "spike_gopro": "spike-gopro",
    "triples": "triples",
    "unified": "unified",
    "recordings": "recordings",
}


@pytest.mark.parametrize("tree", TREES)
def test_every_layout_is_known_by_its_folders(tmp_path, trees, tree):
    getattr(trees, f"{tree}_tree")(tmp_path)
    layout = detect_layout(tmp_path)
    assert layout.name == TREES[tree] == layout.read(tmp_path).layout
    assert layout_named(layout.name) is layout


def test_gopro_is_known_from_inside_and_without_spikes(tmp_path, trees):
    trees.gopro_tree(tmp_path, spikes=None, variants=("blur_gamma",))
    assert detect_layout(tmp_path / "GOPRO_Large").name == "gopro"


def test_a_manifest_decides_even_where_the_names_are_those_of_gopro(tmp_path, trees):
    trees.unified_tree(tmp_path)
    assert detect_layout(tmp_path).name == "unified"
    (tmp_path / "manifest.json").unlink()
    assert detect_layout(tmp_path).name == "gopro"


def test_in_doubt_both_layouts_are_named_and_the_user_decides(tmp_path, trees):
    trees.triples_tree(tmp_path, name=lambda take: take.name)
    with pytest.raises(DataError, match=r"gopro \(.*\) and triples \(.*\); say which with --layout"):
        detect_layout(tmp_path)
    assert read_convertible(tmp_path, layout="triples").layout == "triples"
    assert read_convertible(tmp_path, layout="gopro").layout == "gopro"


def test_where_nothing_fits_the_answer_says_what_was_looked_for_and_what_is_there(tmp_path):
    (tmp_path / "train" / "images").mkdir(parents=True)
    (tmp_path / "readme.txt").touch()
    with pytest.raises(DataError) as caught:
        detect_layout(tmp_path)
    message = str(caught.value)
    assert "spike-gopro: {train,test}/{blur_data,sharp_data,spike_data}" in message
    assert message.endswith("Found readme.txt, train; train: images")
    assert "\n" not in message


def test_what_is_no_folder_says_so(tmp_path):
    (tmp_path / "file").touch()
    for name, message in (("no", "no such dataset folder"), ("file", "is not a folder")):
        for look in (detect_layout, read_convertible):
            with pytest.raises(DataError, match=message):
                look(tmp_path / name)


def test_options_reach_the_layout_they_are_for(tmp_path, trees):
    trees.gopro_tree(tmp_path / "gopro")
    trees.spike_gopro_tree(tmp_path / "other")
    source = read_convertible(
        tmp_path / "gopro", blur_variant="blur_gamma", gopro_options={"central_spikes": 48}
    )
    assert (source.blur_variant, source.sequences[0].spike_frames) == ("blur_gamma", 48)
    assert read_convertible(tmp_path / "other", blur_variant="blur_gamma").blur_variant == "blur_gamma"
    with pytest.raises(UsageError, match="has the layout spike-gopro"):
        read_convertible(tmp_path / "other", gopro_options={"central_spikes": 48})


def test_what_cannot_be_converted_says_why(tmp_path, trees):
    trees.unified_tree(tmp_path / "ours")
    trees.recordings_tree(tmp_path / "bare")
    with pytest.raises(DataError, match="is a deblurkit dataset already"):
        read_convertible(tmp_path / "ours")
    with pytest.raises(DataError, match="without blurry frames"):
        read_convertible(tmp_path / "bare")
    with pytest.raises(ValueError, match="not 'gopr0'"):
        layout_named("gopr0")
