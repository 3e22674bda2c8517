import pytest

from deblurkit.config.yaml_source import LARGEST_FILE, parse, parse_value, read_text, value_as_yaml
from deblurkit.errors import ConfigError


def values(text):
    document = parse(text)
    assert document.problems == []
    return {".".join(entry.path): entry.value for entry in document.entries}


def test_each_entry_knows_the_lines_of_its_keys():
    document = parse("# head\nTRAIN:\n  EPOCHS: 3\n  OPTIM:\n    LR: 1\nSEED: 2\n")
    assert [(entry.path, entry.lines) for entry in document.entries] == [
        (("TRAIN", "EPOCHS"), (2, 3)),
        (("TRAIN", "OPTIM", "LR"), (2, 4, 5)),
        (("SEED",), (6,)),
    ]


@pytest.mark.parametrize(
    ("text", "value"),  # YAML 1.2.2, sec. 10.3.2 (core schema); yes/no/on/off from YAML 1.1
    [
        ("2e-4", 0.0002),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-12", -12),
        ("010", 10),
        ("1_000", 1000),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("true", True),
        ("off", False),
        ("~", None),
        ("", None),
        ("cpu*0.9", "cpu*0.9"),
        ("'8'", "8"),
        ("[1, [a, 2.5]]", [1, ["a", 2.5]]),
        ("{A: {B: 1}}", {"A": {"B": 1}}),
        ("-.inf", float("-inf")),
    ],
)
def test_scalars_are_read_as_yaml_1_2(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", None, "empty; expected keys such as `TRAIN:` at the top"),
        ("# only a comment\n", None, "empty;"),
        ("\n- a\n", 2, "expected keys such as `TRAIN:` at the top, got a list"),
        ("word", 1, "got a single value"),
        ("A: 1\nB: [1\nC: 2\n", 3, "not valid YAML"),
        ("A: 1\n\tB: 2\n", 2, "not valid YAML"),
        ("A: 1\n---\nB: 2\n", 2, "not valid YAML: expected a single document"),
        ("A: \x07\n", 1, "not valid YAML: the character U+0007"),
        ("A:\n  B: *nowhere\n", 2, "undefined alias"),
        ('A: "\\UFFFFFFFF"', None, "not valid YAML"),
        ('A: "\\ud800"', 1, "cannot be read as str"),
        (
            "A: !!python/object/apply:os.system [ls]",
            1,
            "the tag !!python/object/apply:os.system is not allowed",
        ),
        ("A: !!set {a}", 1, "the tag !!set is not allowed"),
        ("A: !!int word", 1, "'word' cannot be read as int"),
        ("A: 9223372036854775808", 1, "cannot be read as int"),
        ("[A]: 1", 1, "expected a name as key, got a list"),
        ("A: &x\n  <<: 3\n", 2, "<< takes an alias of a mapping"),
        ("A: &x\n  B: *x\n", 1, "nested deeper than 20 levels"),
        ("[" * 5000, None, "nested deeper than 20 levels"),
    ],
)
def test_what_is_no_configuration_is_told_with_its_line(text, line, message):
    told_line, told = parse(text).problems[0]
    assert message in told
    assert told_line == line


def test_a_key_given_twice_is_told_with_both_lines_at_any_depth():
    problems = parse("LOG:\n  A: 1\nTEST: {B: 1}\nLOG:\n  A: 2\n  A: 3\n").problems
    assert problems == [
        (4, "LOG is given a second time, first on line 1; put both in one place"),
        (6, "LOG.A is given a second time, first on line 5; put both in one place"),
    ]


def test_merge_keys_give_way_to_the_mapping_s_own():
    text = "A: &a {X: 1, Y: 2}\nB: &b {Y: 3, Z: 4}\nC:\n  <<: [*a, *b]\n  X: 9\n"
    found = values(text)  # https://yaml.org/type/merge.html: earlier maps override later ones
    assert (found["C.X"], found["C.Y"], found["C.Z"]) == (9, 2, 4)


def test_a_billion_laughs_are_stopped_quickly():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    problems = parse("\n".join(lines)).problems
    assert problems == [(None, "more than 10,000 values once its aliases are written out")]


def test_wide_merges_are_stopped_too():
    lines = ["a0: &a0 {x: 1}"] + [
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12)
    ]
    assert "more than 10,000 values" in parse("\n".join(lines)).problems[-1][1]


def test_files_that_cannot_be_read_are_told_by_name(tmp_path):
    (tmp_path / "latin.yaml").write_bytes("SEED: 1\nLOG: für\n".encode("latin-1"))
    (tmp_path / "large.yaml").write_bytes(b"#" * (LARGEST_FILE + 1))
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfSEED: 1\n")
    expected = {
        "latin.yaml": "latin.yaml:2: not UTF-8",
        "large.yaml": "larger than",
        "none.yaml": "no such file",
    }
    for name, message in expected.items():
        with pytest.raises(ConfigError, match=message):
            read_text(tmp_path / name)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_text(tmp_path)
    assert read_text(tmp_path / "bom.yaml") == "SEED: 1\n"


@pytest.mark.parametrize(
    "value",
    [
        "2e-4",
        "auto",
        "",
        "true",
        "1:30",
        "a: b # c",
        "運行",
        "\x85",
        "😀",
        1e-7,
        2.0,
        3,
        None,
        False,
        [1, "2", 0.5],
    ],
)
def test_a_value_is_read_back_as_it_was(value):
    text = value_as_yaml(value)
    assert "\n" not in text
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)
