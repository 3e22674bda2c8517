"""The layers hold: nothing imports what lies above it, and `--help` imports nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import deblurkit

PACKAGE = Path(deblurkit.__file__).parent
LAYERS = [
    {"errors", "units", "files", "cgroups", "language"},
    {"last_words"},
    {"config"},
    {"timing"},
    {"cache"},
    {"models", "data", "analysis"},
    {"memory"},
    {"training"},
    {"tuning"},
    {"render"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names = (
                [f"{node.module}.{a.name}" for a in node.names]
                if node.module == "deblurkit"
                else [node.module]
            )
            found |= set(names)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "deblurkit"}


def _modules() -> list[Path]:
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_its_own_part_and_lower_layers(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in _imports(path):
        parts = name.split(".")
        if len(parts) == 1 or parts[1] == "__version__":
            continue
        assert parts[1] == own or LEVEL[parts[1]] < LEVEL[own], f"{own} must not import {name}"


@pytest.mark.parametrize(
    "path", [p for p in _modules() if p.name == "__init__.py"], ids=lambda p: p.parent.name
)
def test_a_package_init_holds_a_docstring_and_nothing_else(path):
    body = ast.parse(path.read_text(encoding="utf-8")).body
    assert [type(node) for node in body] == [ast.Expr]


def test_the_command_line_comes_up_without_anything_heavy():
    code = (
        "import sys, deblurkit.cli.app\n"
        "heavy = {'torch', 'pandas', 'numpy', 'cv2', 'pydantic', 'yaml'} & sys.modules.keys()\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_registry_host_is_named_in_the_project():
    root = PACKAGE.parent
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    hosts = ["py" + "pi.org", "python" + "hosted.org", "download." + "pytorch"]
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        path = root / name
        text = path.read_text(encoding="utf-8", errors="ignore") if path.is_file() else ""
        assert not [host for host in hosts if host in text], name
