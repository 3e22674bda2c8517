"""The public face of the command line: names, options, exit codes. A change here is a change for users."""

import os
import resource
import signal
import subprocess
import sys

import pytest
import typer

from deblurkit import __version__
from deblurkit.cli import app as app_module
from deblurkit.cli.app import app, run
from deblurkit.errors import ConfigError

OPTIONS = {
    "train": {"--preset", "--config", "--set", "--output", "--resume", "--gpus", "--json"},
    "evaluate": {
        *("--data", "--split", "--device", "--ablate-spikes", "--protocol", "--lpips", "--lpips-weights"),
        *("--tile", "--quick", "--picture", "--json"),
    },
    "restore": {
        *("--output", "--spikes", "--spike-size", "--spikes-per-frame", "--no-spikes", "--tile", "--overlap"),
        *("--memory", "--device", "--video", "--json"),
    },
    "analyze-log": {
        "--compare",
        "--csv",
        "--fail-on",
        "--follow",
        "--html",
        "--json",
        "--perfetto",
        "--tensorboard",
        "--warmup",
    },
    "check-data": {"--layout", "--spikes", "--blur-variant", "--quick", "--json"},
    "profile-step": {
        *("--preset", "--config", "--set", "--steps", "--warmup", "--depth", "--modules", "--data"),
        *("--json", "--trace", "--html", "--torch-profiler", "--verbose"),
    },
    "diagnose-memory": {
        *("--preset", "--config", "--set", "--gpus", "--pid", "--watch", "--json", "--html", "--fail-on"),
    },
    "recommend-config": {
        *("--preset", "--config", "--set", "--vram", "--host-memory", "--gpu", "--devices", "--time-budget"),
        *("--trials", "--allow", "--data", "--verify", "--fresh"),
        *("--json", "--markdown", "--html", "--output"),
    },
    "config show": {"--preset", "--config", "--set", "--json"},
    "config validate": {"--json"},
    "config schema": {"--output"},
    "config diff": {"--json"},
}


def commands(group, prefix=""):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            options = {max(p.opts, key=len) for p in command.params if p.opts[0].startswith("-")}
            yield f"{prefix}{name}", options - {"--help"}


def test_the_public_commands_and_options_are_these():
    found = dict(commands(typer.main.get_command(app)))
    assert {name: found[name] for name in OPTIONS} == OPTIONS
    made = {"synthetic", "video", "gopro", "pack", "voxels"}
    assert set(found) - set(OPTIONS) == {f"prepare-data {name}" for name in made}


def test_every_command_says_what_it_does(capsys):
    for name in [*OPTIONS, "prepare-data video"]:
        assert run([*name.split(), "--help"]) == 0
        assert f"Usage: deblurkit {name}" in capsys.readouterr().out


def test_the_version_is_the_package_s(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"deblurkit {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["trian"], "No such command 'trian'"),
        (["train", "--presett", "x"], "No such option"),
        (["train"], "expected what to train: --preset NAME"),
        (["train", "--preset", "quickstart", "--set", "SEED"], "expected KEY=VALUE"),
        (["evaluate"], "Missing argument"),
        (["evaluate", "x", "--split", "half"], "error: Invalid value for '--split': 'half' is not one of"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(capsys, arguments, text):
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert text in error and error.startswith("deblurkit: error: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["train", "--preset", "quickstart", "--output", "/dev/null/x"], "/dev/null"),
        (["train", "--preset", "quikstart"], "quickstart"),
        (["train", "--config", "/no/such.yaml"], "/no/such.yaml"),
        (["evaluate", "/no/such"], "/no/such: expected a checkpoint"),
        (["analyze-log", "/no/such.log"], "/no/such.log"),
    ],
)
def test_a_user_s_mistake_is_one_line_and_exit_code_1(capsys, arguments, text):
    assert run(arguments) == 1
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1


def raising(monkeypatch, error):
    def boom(**named):
        raise error

    monkeypatch.setattr(app_module, "app", boom)


def test_every_problem_gets_a_line(monkeypatch, capsys):
    raising(monkeypatch, ConfigError(["a.yaml:1: one", "a.yaml:2: two"]))
    assert run([]) == 1
    assert capsys.readouterr().err == "deblurkit: error: a.yaml:1: one\ndeblurkit: error: a.yaml:2: two\n"


def test_ctrl_c_is_130_and_our_own_faults_are_not_hidden(monkeypatch, capsys):
    raising(monkeypatch, KeyboardInterrupt())
    assert run([]) == 130
    raising(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        run([])


@pytest.mark.parametrize(
    ("name", "users", "used"),
    [
        ("OMP_WAIT_POLICY", None, "PASSIVE"),
        ("OMP_WAIT_POLICY", "ACTIVE", "ACTIVE"),
        ("MKL_CBWR", None, "AUTO"),
        ("MKL_CBWR", "AVX2", "AVX2"),
    ],
)
def test_compute_libraries_are_told_what_runs_need_unless_the_user_has(monkeypatch, name, users, used):
    monkeypatch.setenv(name, "x")
    monkeypatch.delenv(name) if users is None else monkeypatch.setenv(name, users)
    seen = []
    monkeypatch.setattr(app_module, "run", lambda arguments: seen.append(os.environ[name]) or 0)
    with pytest.raises(SystemExit):
        app_module.main([])
    assert seen == [used]


def test_main_leaves_with_the_code(monkeypatch):
    monkeypatch.setattr(app_module, "run", lambda arguments: 3)
    with pytest.raises(SystemExit) as caught:
        app_module.main([])
    assert caught.value.code == 3


@pytest.mark.parametrize("arguments", [[], ["config"], ["prepare-data"]])
def test_a_bare_command_shows_its_help(capsys, arguments):
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert "Commands:" in shown.out + shown.err and "error" not in shown.err


def test_a_hangup_that_nohup_ignores_stays_ignored(monkeypatch):
    monkeypatch.setattr(app_module, "run", lambda arguments: 0)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit):
            app_module.main([])
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_at_the_very_end_changes_nothing_any_more(monkeypatch, number):
    """A closed terminal sends SIGHUP twice: by the kernel, and by the shell."""
    monkeypatch.setattr(app_module, "run", lambda arguments: 129)
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as caught:
            app_module.main([])
        os.kill(os.getpid(), number)
        assert caught.value.code == 129
    finally:
        signal.signal(number, before)


def test_an_error_is_no_other_one_where_nobody_reads_it(monkeypatch):
    master, slave = os.openpty()
    os.close(master)
    with os.fdopen(slave, "w", buffering=1) as stream:
        monkeypatch.setattr("sys.stderr", stream)
        raising(monkeypatch, ConfigError(["a.yaml:1: one"]))
        assert run([]) == 1


@pytest.mark.parametrize("command", ["train", "diagnose-memory", "profile-step"])
def test_a_library_that_finds_no_room_is_one_line(command, tmp_path):
    """A child whose address space is bound below the size of torch's libraries, as `ulimit -v` does it."""
    bound = (600_000 * 1024, 600_000 * 1024)
    found = subprocess.run(
        [sys.executable, "-m", "deblurkit", command, "--preset", "quickstart"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, bound),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=100,
        check=False,
    )
    assert found.returncode == 1
    (line,) = [line for line in found.stderr.splitlines() if "OpenBLAS" not in line]
    assert line.startswith("deblurkit: error: a library could not be loaded, for want of memory: ")
    assert "`ulimit -v` says 600000 (585.9 MiB" in line and "ulimit -v unlimited" in line


def test_other_libraries_that_are_missing_are_our_own_fault(monkeypatch, capsys):
    def missing(*args, **options):
        raise ImportError("No module named 'made_up'")

    monkeypatch.setattr(app_module, "app", missing)
    with pytest.raises(ImportError, match="made_up"):
        run(["config"])


@pytest.mark.parametrize(("text", "told"), [("", "out of memory; "), ("9 bytes", "out of memory: 9 bytes; ")])
def test_memory_that_runs_out_is_one_line(monkeypatch, capsys, text, told):
    def hungry(*args, **options):
        raise MemoryError(text)

    monkeypatch.setattr(app_module, "app", hungry)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert run(["config"]) == 1
    assert capsys.readouterr().err == f"deblurkit: error: {told}see `free -h`, and ask for less\n"
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (2**31, 2**31))
    assert run(["config"]) == 1
    assert f"{told}`ulimit -v` says 2097152 (2.00 GiB of" in capsys.readouterr().err
