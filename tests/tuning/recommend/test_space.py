"""The space against divisors counted by hand, and against configurations that the loader takes."""

import pytest

from deblurkit.config.changed import as_assignments
from deblurkit.config.load import load_config
from deblurkit.tuning.recommend.space import learning_rate_rule, recomputed, search_space


def config(preset, *overrides):
    return load_config(preset, None, overrides, warn=lambda text: None)


def small_vrt(*overrides):
    return config("quickstart_vrt", *overrides)


def words(candidates, axis):
    return list(dict.fromkeys(candidate.choices[axis] for candidate in candidates))


def test_the_start_comes_first_and_all_keep_its_effective_batch():
    start = config("baseline")
    space = search_space(start, device_kind="cuda")
    assert space[0].config is start
    assert (space[0].settings, space[0].effect, space[0].devices) == ({}, "none", 1)
    assert {candidate.effective_batch for candidate in space} == {6}
    assert words(space, "batch") == ["1 x 6", "2 x 3", "3 x 2", "6 x 1"]
    assert len(space) == 4 * 2 * 6 * 2 * 2  # batches, optimisers, recomputation, precisions, compilation
    assert all(candidate.choices.keys() == space[0].choices.keys() for candidate in space)


@pytest.mark.parametrize("preset", ["quickstart", "quickstart_vrt"])
def test_no_two_candidates_are_alike_and_the_settings_make_the_configuration(preset):
    start = config(preset, "TRAIN.BATCH_SIZE=2")
    space = search_space(start, device_kind="cuda", allow=frozenset({"accuracy"}), devices=(1, 2))[:600]
    assert len({(each.devices, each.config) for each in space}) == len(space)
    assert len({each.key for each in space}) == len(space)
    assert len({(*each.choices.items(), each.devices) for each in space}) == len(space)
    for each in space[:: max(1, len(space) // 25)]:
        options = ["TRAIN.BATCH_SIZE=2", *as_assignments(each.settings)]
        assert config(preset, *options) == each.config


def test_the_exhaustive_benchmarks_space_has_48_configurations():
    start = small_vrt("TRAIN.BATCH_SIZE=2", "TRAIN.GRADIENT_ACCUMULATION_STEPS=4")
    space = search_space(start, device_kind="cpu")
    assert len(space) == 48
    assert list(space[0].choices) == ["batch", "optimizer", "recompute"]
    assert space[0].choices == {"batch": "2 x 4", "optimizer": "adamw", "recompute": "none"}


@pytest.mark.parametrize(
    ("clips", "own", "expected"),
    [
        (6, 2, [2, 1, 3, 6]),
        (7, 7, [7, 1]),
        (48, 4, [4, 1, 3, 8, 16, 48]),  # of 1 2 3 6 8 12 16 24 48: every second
        (1, 1, [1]),
    ],
)
def test_micro_batches_are_divisors_at_most_six_with_the_starts_own(clips, own, expected):
    start = config(
        "quickstart", f"TRAIN.BATCH_SIZE={own}", f"TRAIN.GRADIENT_ACCUMULATION_STEPS={clips // own}"
    )
    space = search_space(start, device_kind="cpu")
    assert list(dict.fromkeys(each.batch_size for each in space)) == expected


def test_devices_share_the_effective_batch_and_those_that_do_not_divide_it_are_left_out():
    space = search_space(config("baseline"), device_kind="cuda", devices=(1, 2, 4, 6))
    assert words(space, "devices") == ["1", "2", "6"]
    pairs = {(each.devices, each.batch_size, each.accumulation) for each in space if each.devices > 1}
    assert pairs == {(2, 1, 3), (2, 3, 1), (6, 1, 1)}


def test_the_start_is_on_the_first_number_of_devices():
    space = search_space(config("baseline"), device_kind="cuda", devices=(2, 1))
    assert (space[0].devices, space[0].effective_batch, space[0].settings) == (2, 12, {})
    assert {each.effective_batch for each in space} == {12}


@pytest.mark.parametrize(
    ("kind", "given", "allow", "has_bf16", "expected"),
    [
        ("cuda", (), (), True, ["float32", "bf16"]),
        ("cuda", (), (), False, ["float32", "fp16"]),
        ("cuda", ("TRAIN.AMP_ENABLED=true", "TRAIN.AMP_DTYPE=fp16"), (), True, ["fp16", "float32", "bf16"]),
        ("cpu", ("TRAIN.AMP_ENABLED=true",), (), True, ["bf16", "float32"]),
        ("cpu", ("TRAIN.AMP_ENABLED=true", "TRAIN.AMP_OPT_LEVEL=O0"), ("bf16",), True, ["float32", "bf16"]),
    ],
)
def test_precisions_are_those_that_the_device_has_or_that_are_allowed(kind, given, allow, has_bf16, expected):
    space = search_space(
        config("baseline", *given), device_kind=kind, allow=frozenset(allow), has_bf16=has_bf16
    )
    assert words(space, "precision") == expected


def test_a_cpu_has_neither_16_bits_nor_compilation_unless_they_are_allowed():
    (axes,) = {tuple(each.choices) for each in search_space(config("baseline"), device_kind="cpu")}
    assert axes == ("batch", "optimizer", "recompute")
    allowed = search_space(config("baseline"), device_kind="cpu", allow=frozenset({"compile", "bf16"}))
    assert words(allowed, "compile") == ["off", "on"] and words(allowed, "precision") == ["float32", "bf16"]


def test_without_8_bit_states_there_is_one_optimiser():
    space = search_space(config("baseline"), device_kind="cuda", has_eight_bit=False)
    assert "optimizer" not in space[0].choices
    assert {each.config.train.optim.type for each in space} == {"adamw"}


def test_the_effect_on_training_is_the_strongest_of_the_choices():
    space = search_space(config("baseline"), device_kind="cuda", allow=frozenset({"accuracy"}))
    effects = {
        (each.choices["scheme"], each.choices["optimizer"], each.choices["precision"]): each.effect
        for each in space
        if each.choices["compile"] == "off"
        and (each.choices["crop"], each.choices["clip"]) == ("256 px", "5 frames")
    }
    assert effects["as given", "adamw", "float32"] == "none"
    assert effects["as given", "adamw8bit", "float32"] == effects["as given", "adamw", "bf16"] == "rounding"
    assert effects["A", "adamw", "float32"] == effects["B", "adamw8bit", "bf16"] == "accuracy"


def test_attention_of_the_stages_at_full_resolution_alone_can_be_recomputed():
    space = search_space(config("baseline"), device_kind="cuda")
    assert words(space, "recompute") == [
        "attention + FFN",
        "none",
        "attention",
        "FFN",
        "attention in stages 1, 7, 8",
        "attention + FFN in stages 1, 7, 8",
    ]
    fine = next(each for each in space if each.choices["recompute"] == "attention in stages 1, 7, 8")
    attention, mlp = recomputed(fine.config)
    assert attention == (True, False, False, False, False, False, True, True) and not any(mlp)


def test_flags_as_a_list_are_the_same_choice_as_one_flag_and_others_are_a_choice_of_their_own():
    flags = "[true, true, true, true, true, true, true, true]"
    start = config("baseline", f"MODEL.VRT.USE_CHECKPOINT_ATTN={flags}")
    assert len(words(search_space(start, device_kind="cuda"), "recompute")) == 6
    flags = "[false, true, false, false, false, false, false, false]"
    start = config("baseline", f"MODEL.VRT.USE_CHECKPOINT_ATTN={flags}")
    space = search_space(start, device_kind="cuda")
    assert len(words(space, "recompute")) == 7
    assert space[0].choices["recompute"] == "attention in stages 2 + FFN"


def test_accuracy_is_touched_only_where_that_is_allowed():
    start = config("baseline")
    assert {each.config.model.vrt_depths for each in search_space(start, device_kind="cuda")} == {
        start.model.vrt_depths
    }
    space = search_space(start, device_kind="cuda", allow=frozenset({"accuracy"}))
    assert words(space, "crop") == ["256 px", "192 px", "128 px"]
    assert words(space, "clip") == ["5 frames", "3 frames"]
    assert {each.config.data.crop_size for each in space} == {256, 192, 128}
    alone = {each.choices["scheme"]: each.config for each in space if each.config.data.crop_size == 256}
    conservative = config("conservative").model
    assert alone["A"].model.vrt_depths == conservative.vrt_depths
    assert alone["A"].model.window_size == conservative.window_size
    assert alone["A"].model.fuse == conservative.fuse


def test_changes_that_touch_accuracy_can_be_had_one_at_a_time():
    start, accuracy = config("baseline", "TRAIN.GRADIENT_ACCUMULATION_STEPS=1"), frozenset({"accuracy"})
    space = search_space(start, device_kind="cpu", allow=accuracy, accuracy_changes=1)
    found = {(each.choices["scheme"], each.choices["crop"], each.choices["clip"]) for each in space}
    whole = ("as given", "256 px", "5 frames")
    assert whole in found and len(found) == 1 + 2 + 2 + 1  # schemes, crops, clips
    assert all(sum(map(str.__ne__, words, whole)) <= 1 for words in found)


def test_a_crop_that_grows_is_bounded_from_its_first_size_on():
    given = ("DATA.TRAIN_CROP_SIZE=[128, 224]", "DATA.TRAIN_CROP_EPOCHS=2")
    space = search_space(config("baseline", *given), device_kind="cuda", allow=frozenset({"accuracy"}))
    crops = {each.choices["crop"]: each.config.data.crops_by_epoch for each in space}
    assert crops["192 px"] == ((0, 128), (2, 192), (4, 192))


def test_light_networks_have_no_recomputation_and_no_scheme():
    start = config("quickstart", "TRAIN.BATCH_SIZE=2")
    space = search_space(start, device_kind="cpu", allow=frozenset({"accuracy"}))
    assert not {"recompute", "scheme"} & space[0].choices.keys()


def test_the_learning_rate_stays_and_is_scaled_as_before():
    start = config("baseline")
    other = next(each for each in search_space(start, device_kind="cuda") if each.batch_size == 2)
    told = learning_rate_rule(start, other)
    assert told == "the effective batch stays 2 x 3 x 1 = 6 clips, so TRAIN.OPTIM.LR stays 0.0002"
    scaled = config("baseline", "TRAIN.OPTIM.LR_SCALING=linear")
    other = next(each for each in search_space(scaled, device_kind="cuda") if each.batch_size == 2)
    assert learning_rate_rule(scaled, other).endswith("LR_SCALING linear multiplies it by 6 / 8, as before")
    assert "is 2 x 3 x 1 = 6 instead of 12 clips" in learning_rate_rule(start, other, devices=2)
