import json
import subprocess
import sys

import jsonschema
import pytest
from typer.testing import CliRunner

from deblurkit.cli.config import app
from deblurkit.config.layers import layer_of_text
from deblurkit.config.load import combine
from deblurkit.config.schema import as_values
from deblurkit.errors import ConfigError, DeblurkitError, UsageError


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def run_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("TRAIN:\n  BATCH_SIZE: 3\nuse_amp: true\n", encoding="utf-8")
    return path


def test_show_lists_the_presets_and_the_defaults():
    result = invoke("show")
    assert result.exit_code == 0, result.output
    presets, _, defaults = result.stdout.partition("Defaults\n")
    assert presets.startswith("Presets\n")
    assert "  quickstart " in presets
    assert "  BATCH_SIZE: 1" in defaults
    document = json.loads(invoke("show", "--json").stdout)
    assert "low_memory" in document["presets"]
    assert document["origins"] == {}


def test_show_says_where_each_value_comes_from(run_file):
    arguments = ("show", "--preset", "fast", "--config", run_file, "--set", "TRAIN.EPOCHS=2")
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert (
        result.stderr
        == f"deblurkit: warning: {run_file}:3: use_amp is an older name; write TRAIN.AMP_ENABLED\n"
    )
    origins = dict(line.strip().split("#") for line in result.stdout.splitlines() if "#" in line)
    assert origins[f"{'BATCH_SIZE: 3':<42}  "] == f" {run_file}:2"
    assert origins[f"{'EPOCHS: 2':<42}  "] == " --set"
    document = json.loads(invoke(*arguments, "--json").stdout)
    assert document["values"]["TRAIN"]["BATCH_SIZE"] == 3
    assert document["origins"]["TRAIN.AMP_ENABLED"] == f"{run_file}:3"
    assert document["presets"] is None


def test_what_show_prints_is_a_configuration_again(run_file):
    shown = invoke("show", "--config", run_file).stdout
    document = json.loads(invoke("show", "--config", run_file, "--json").stdout)
    assert as_values(combine([layer_of_text(shown, name="shown")]).config) == document["values"]


def test_show_passes_errors_on():
    assert isinstance(invoke("show", "--set", "TRAIN.EPOCHS=0").exception, ConfigError)
    assert isinstance(invoke("show", "--set", "nothing").exception, UsageError)


def test_validate_says_ok_or_every_problem(run_file, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("SEED: x\nLOG: {A: 1}\n", encoding="utf-8")
    assert invoke("validate", run_file).stdout == f"{run_file}: ok\n"
    result = invoke("validate", run_file, bad, tmp_path / "none.yaml")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == f"{run_file}: ok"
    assert lines[1].startswith(f"{bad}:1: SEED: expected a whole number")
    assert lines[2].startswith(f"{bad}:2: LOG.A: unknown key")
    assert lines[3] == f"{tmp_path / 'none.yaml'}: no such file"
    assert invoke("validate", "quickstart", "fast").stdout == "quickstart: ok\nfast: ok\n"
    assert "did you mean fast?" in invoke("validate", "fst").stdout
    rows = json.loads(invoke("validate", run_file, bad, "--json").stdout)
    assert [(row["ok"], len(row["problems"])) for row in rows] == [(True, 0), (False, 2)]


def test_schema_goes_to_the_terminal_or_a_file(tmp_path):
    schema = json.loads(invoke("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False
    output = tmp_path / "sub" / "schema.json"
    assert invoke("schema", "--output", output).stdout == f"Wrote {output}.\n"
    assert json.loads(output.read_text(encoding="utf-8")) == schema
    (tmp_path / "file").touch()
    assert isinstance(invoke("schema", "--output", tmp_path / "file" / "x.json").exception, DeblurkitError)


def test_diff_compares_presets_and_files(run_file):
    rows = json.loads(invoke("diff", "baseline", "fast", "--json").stdout)
    assert {"key": "MODEL.VRT.USE_CHECKPOINT_FFN", "a": True, "b": False} in rows
    assert "TRAIN.AMP_ENABLED  false" in invoke("diff", "baseline", run_file).stdout
    assert invoke("diff", "fast", "fast").stdout == "fast and fast are the same configuration.\n"
    assert "did you mean fast?" in str(invoke("diff", "fst", "fast").exception)
    assert "no such file" in str(invoke("diff", "none.yaml", "fast").exception)


def test_importing_the_command_imports_nothing_heavy():
    code = (
        "import sys, deblurkit.cli.config;"
        "print(sorted({'pydantic', 'torch', 'pandas', 'numpy', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
