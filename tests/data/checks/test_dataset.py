"""Eight kinds of damage, each done to a tree in every layout, found and named; whole trees give nothing."""

import dataclasses
import hashlib
import json
import shutil

import cv2
import numpy as np
import pytest

from deblurkit.data.checks.dataset import check_dataset
from deblurkit.data.layouts.detect import detect_layout
from deblurkit.errors import DataError, UsageError

NAMES = (("train", "GOPR0101_13_00"), ("test", "GOPR0102_11_00"))
LAYOUTS = ("gopro by sequence", "gopro by frame", "spike-gopro", "triples", "unified")
SHIFT = 12  # spike frames


def takes(trees, names=NAMES):
    return trees.takes(names=names, frames=5, size=(96, 128))


def make(trees, layout, root, taken):
    if layout.startswith("gopro"):
        return trees.gopro_tree(root, taken, spikes=layout.split()[-1])
    makers = {
        "spike-gopro": trees.spike_gopro_tree,
        "triples": trees.triples_tree,
        "unified": trees.unified_tree,
    }
    return makers[layout](root, taken)


@pytest.fixture(scope="session")
def whole(trees, tmp_path_factory):
    """A whole tree in each layout; to be copied before it is touched."""
    made = {}
    for layout in LAYOUTS:
        made[layout] = tmp_path_factory.mktemp("whole") / layout.replace(" ", "_")
        make(trees, layout, made[layout], takes(trees))
    return made


def checked(root, **options):
    return check_dataset(root, blur_variant="blur", workers=1, **options)


def found(report):
    """(path below the root, kind) of every problem."""
    return [(str(p.path.relative_to(report.root)), p.kind) for p in report.problems]


def first_sequence(root):
    return detect_layout(root).read(root).sequences[0]


def sign_again(root):
    """Bring the manifest up to what the files are, as whoever converted them would have."""
    path = root / "manifest.json"
    if not path.exists():
        return
    content = json.loads(path.read_text())
    for name in content["files"]:
        data = (root / name).read_bytes()
        content["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps(content))


def rewrite_spikes(path, change):
    """Change the frames of a recording as they lie on the disk, uint8 (T, 48, 8)."""
    frames = np.fromfile(path, np.uint8).reshape(-1, 48, 8)
    path.write_bytes(np.ascontiguousarray(change(frames)).tobytes())


def lose_sharp(root):
    path = first_sequence(root).exposures[1].sharp
    path.unlink()
    return path


def lose_spikes(root):
    path = first_sequence(root).exposures[1].spikes
    path.unlink()
    return path


def cut_picture(root):
    path = first_sequence(root).exposures[1].blurry
    path.write_bytes(path.read_bytes()[:-900])
    return path


def cut_spikes(root):
    path = first_sequence(root).exposures[1].spikes
    path.write_bytes(path.read_bytes()[:-900])
    return path


def cut_spikes_at_a_frame(root):
    path = first_sequence(root).exposures[1].spikes
    path.write_bytes(path.read_bytes()[: -3 * 48 * 8])
    return path


def shrink(root):
    path = first_sequence(root).exposures[1].blurry
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (64, 48)))
    sign_again(root)
    return path


def flip(root):
    path = first_sequence(root).exposures[1].spikes
    rewrite_spikes(path, lambda frames: frames[:, ::-1])
    sign_again(root)
    return path


def reverse_bits(root):
    path = first_sequence(root).exposures[1].spikes
    rewrite_spikes(path, lambda f: np.packbits(np.unpackbits(f, axis=-1), axis=-1, bitorder="little"))
    sign_again(root)
    return path


def spoil(root):
    path = first_sequence(root).exposures[1].blurry
    image = cv2.imread(str(path))
    image[0, 0] ^= 1
    cv2.imwrite(str(path), image)
    return path


DAMAGES = [
    (lose_sharp, "missing"),
    (lose_spikes, "missing"),
    (cut_picture, "truncated"),
    (cut_spikes, "truncated"),
    (cut_spikes_at_a_frame, "truncated"),
    (shrink, "wrong-size"),
    (flip, "flipped"),
    (reverse_bits, "bit-order"),
]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_whole_tree_has_no_problem(whole, layout, quick):
    report = checked(whole[layout], quick=quick)
    assert found(report) == []
    assert report.layout == layout.split()[0]
    assert [(s.split, s.kinds) for s in report.sequences] == [("train", ()), ("test", ())]
    for sequence in report.sequences:
        assert 0.1 < sequence.spike_rate < 0.5
        assert sequence.score > 0.95 and abs(sequence.best_shift) <= 3


@pytest.mark.parametrize(("damage", "kind"), DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_damage_to_a_file_is_found_and_named(whole, tmp_path, layout, damage, kind):
    shutil.copytree(whole[layout], tmp_path / "root")
    path = damage(tmp_path / "root")
    report = checked(tmp_path / "root")
    assert found(report) == [(str(path.relative_to(tmp_path / "root")), kind)]
    assert report.sequences[0].kinds == (kind,) and report.sequences[1].kinds == ()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_spikes_shifted_by_some_frames_are_found(trees, tmp_path, layout):
    train, test = takes(trees)
    late = dataclasses.replace(train, spikes=np.roll(train.spikes, -SHIFT, axis=0))
    make(trees, layout, tmp_path, (late, test))
    report = checked(tmp_path)
    assert [kind for _, kind in found(report)] == ["shifted"]
    assert first_sequence(tmp_path).name in str(report.problems[0].path)
    assert report.sequences[0].best_shift == pytest.approx(-SHIFT, abs=2)
    assert f"{-report.sequences[0].best_shift} frames earlier" in report.problems[0].message


@pytest.mark.parametrize("layout", ["gopro by frame", "triples"])
def test_recordings_that_belong_to_the_next_frame_are_found(trees, tmp_path, layout):
    train, test = takes(trees)
    moved = dataclasses.replace(train, spikes=np.roll(train.spikes, -train.spikes_per_exposure, axis=0))
    make(trees, layout, tmp_path, (moved, test))
    report = checked(tmp_path)
    assert [kind for _, kind in found(report)] == ["shifted"]
    assert report.sequences[0].best_shift == pytest.approx(-train.spikes_per_exposure, abs=2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_wrong_kind_of_blur_is_found(trees, whole, tmp_path, layout):
    shutil.copytree(whole[layout], tmp_path / "root")
    sequence, take = first_sequence(tmp_path / "root"), takes(trees)[0]
    for exposure in sequence.exposures:
        trees.write_png(exposure.blurry, take.blurry(take.stems.index(exposure.stem), "blur_gamma"))
    sign_again(tmp_path / "root")
    report = checked(tmp_path / "root")
    path = sequence.exposures[0].blurry.parent.relative_to(tmp_path / "root")
    assert found(report) == [(str(path), "blur-variant")]
    assert report.sequences[0].blur_variant == "blur_gamma"


def test_a_file_that_differs_from_the_manifest_is_found(whole, tmp_path):
    shutil.copytree(whole["unified"], tmp_path / "root")
    path = spoil(tmp_path / "root")
    report = checked(tmp_path / "root")
    assert found(report) == [(str(path.relative_to(tmp_path / "root")), "checksum")]
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"\0")
    (problem,) = checked(tmp_path / "root").problems
    assert problem.kind == "checksum" and "SHA-256" in problem.message or str(size + 1) in problem.message


def test_the_folder_chosen_of_gopro_is_held_against_its_name(whole):
    report = check_dataset(whole["gopro by frame"], blur_variant="blur_gamma", workers=1)
    assert found(report) == []
    assert report.sequences[0].blur_variant == "blur_gamma"


def test_nobody_says_which_blur_a_triple_is(trees, tmp_path, whole):
    """Without a choice the fingerprint is shown and is no problem."""
    shutil.copytree(whole["triples"], tmp_path / "root")
    sequence, take = first_sequence(tmp_path / "root"), takes(trees)[0]
    for exposure in sequence.exposures:
        trees.write_png(exposure.blurry, take.blurry(take.stems.index(exposure.stem), "blur_gamma"))
    report = check_dataset(tmp_path / "root", workers=1)
    assert found(report) == []
    assert report.sequences[0].blur_variant == "blur_gamma"


@pytest.mark.parametrize("kind", ["blurry", "sharp"])
def test_damage_inside_a_picture_ends_no_check(whole, tmp_path, kind):
    """Quick looks at the ends of a PNG only, and finds out when it decodes it."""
    shutil.copytree(whole["triples"], tmp_path / "root")
    path = getattr(first_sequence(tmp_path / "root").exposures[0], kind)
    data = path.read_bytes()
    path.write_bytes(data[:41] + bytes(len(data) - 61) + data[-20:])
    for quick in (False, True):
        report = checked(tmp_path / "root", quick=quick)
        assert found(report) == [(str(path.relative_to(tmp_path / "root")), "unreadable")]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_recording_that_is_too_long_is_a_count(whole, tmp_path, layout):
    """A whole sequence's may be longer where its frames fit as they are; only a manifest says how long."""
    shutil.copytree(whole[layout], tmp_path / "root")
    path = first_sequence(tmp_path / "root").exposures[1].spikes
    path.write_bytes(path.read_bytes() + path.read_bytes()[: 150 * 48 * 8])
    kinds = [kind for _, kind in found(checked(tmp_path / "root"))]
    assert kinds == ([] if layout == "gopro by sequence" else ["count"])


def test_processes_find_the_same(whole):
    seen = []
    by_two = check_dataset(
        whole["triples"], workers=2, progress=lambda done, total: seen.append((done, total))
    )
    assert by_two == check_dataset(whole["triples"], workers=1)
    assert seen[-1] == (2, 2)


def test_a_manifest_that_contradicts_itself_is_a_problem(whole, tmp_path):
    shutil.copytree(whole["unified"], tmp_path / "root")
    content = json.loads((tmp_path / "root" / "manifest.json").read_text())
    content["sequences"][0]["spike_starts"].pop()
    (tmp_path / "root" / "manifest.json").write_text(json.dumps(content))
    assert found(checked(tmp_path / "root")) == [("manifest.json", "count")]


def test_a_folder_that_is_no_dataset_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no known layout"):
        check_dataset(tmp_path)


def test_spikes_are_named_for_gopro_only(whole, tmp_path):
    with pytest.raises(UsageError, match="is for the layout gopro"):
        check_dataset(whole["triples"], spikes=tmp_path)
