"""The gate of the house: what may not be committed, how large it may grow, and which module may import which."""

import ast
import fnmatch
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "lib"

MEGABYTE = 10**6
DATA_LIMIT = 45 * MEGABYTE
TREE_LIMIT = 60 * MEGABYTE
BLOCK_LINES = 600
CORE_LINES = 2000
LINE_END = b"\n"

# One letter of each name stands in brackets, so that this file does not find itself.
FORBIDDEN = {
    "names a registry host": re.compile(
        rb"py[p]i\.(org|io)|python[h]osted|npm[j]s\.|yarn[p]kg|debian\.[o]rg|ana[c]onda\.(org|com)"
    ),
    "names a path of the machine that made it": re.compile(
        rb"(?<![A-Za-z0-9_.-])(/([w]ork|[r]oot|[f]arm|[t]mp|[h]ome/\w+|[U]sers/\w+)/|[A-Z]:\\{1,2}[U]sers\\)"
    ),
}

# Arrows point from a layer to the layers before it. Beside them stands who may import whom within a layer.
LAYERS = ({"errors"}, {"blocks", "world"}, {"weights", "decoding", "training", "drawing"}, {"pipeline"})
SAME_LAYER = {("training", "weights"), ("training", "decoding"), ("weights", "decoding")}
ONLY_TORCH = {"blocks", "world"}


def committed_files(root: Path) -> list[Path]:
    """Every file that git has or would take with `git add`; where there is no git, all that .gitignore admits."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True
    )
    if listing.returncode == 0:
        names = {name.decode() for name in listing.stdout.split(b"\0") if name}
        return sorted(path for name in names if (path := root / name).is_file())
    return sorted(_walk(root, [".git", *_ignored(root)]))


def _ignored(root: Path) -> list[str]:
    lines = (root / ".gitignore").read_text().splitlines()
    return [line.strip().strip("/") for line in lines if line.strip() and not line.startswith("#")]


def _walk(folder: Path, ignored: list[str]) -> Iterator[Path]:
    for path in folder.iterdir():
        if any(fnmatch.fnmatch(path.name, pattern) for pattern in ignored):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path, ignored)
        elif path.is_file():
            yield path


def leaks(name: str, content: bytes) -> list[str]:
    """A sentence for every line of `content` that no commit may hold."""
    found = [(fault, match) for fault, pattern in FORBIDDEN.items() for match in pattern.finditer(content)]
    return [
        f"{name}:{content[: match.start()].count(LINE_END) + 1} {fault}: {match.group().decode(errors='replace')!r}"
        for fault, match in found
    ]


def imports(module: str, code: str, *, is_package: bool) -> Iterator[str]:
    """Dotted names of everything that `code` imports anywhere, relative imports resolved against `module`."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            parent = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{parent}.{alias.name}" for alias in node.names)


def _room(module: str) -> str:
    """The part of the package that `module` belongs to, "" for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def _layer(room: str) -> int:
    return next((level for level, rooms in enumerate(LAYERS) if room in rooms), len(LAYERS))


def _may_import(importer: str, imported: str) -> bool:
    above, below = _layer(importer), _layer(imported)
    return importer == imported or below < above or above == len(LAYERS) or (importer, imported) in SAME_LAYER


def wrong_arrows(modules: dict[str, str], rooms: Iterable[str]) -> list[str]:
    """A sentence for every import that the house forbids.

    `modules` maps dotted names to code, that of a package's __init__.py under "….__init__"; `rooms` are the names in
    the package's folder, which tell a module in `from atelier import name` from something that __init__ defines.
    """
    faults = []
    for name, code in modules.items():
        is_package = name.endswith(".__init__")
        module = name.removesuffix(".__init__")
        for imported in imports(module, code, is_package=is_package):
            top, room = imported.split(".")[0], _room(module)
            if top == "atelier":
                target = _room(imported) if _room(imported) in rooms else ""
                if not _may_import(room, target):
                    faults.append(f"{module} imports {imported}, which stands above it or beside it")
            elif room in ONLY_TORCH and top != "torch" and top not in sys.stdlib_module_names:
                faults.append(f"{module} imports {imported}; {room} may import only torch")
    return faults


def too_long(lines: dict[str, int]) -> list[str]:
    """A sentence for every bound on lines that is passed; `lines` maps paths inside the package to numbers of lines."""
    blocks = {path: count for path, count in lines.items() if path.startswith("blocks/")}
    faults = [
        f"{path} has {count} lines, more than {BLOCK_LINES}" for path, count in blocks.items() if count > BLOCK_LINES
    ]
    core = sum(blocks.values()) + lines.get("pipeline.py", 0)
    return faults + [f"blocks and pipeline have {core} lines, more than {CORE_LINES}"] * (core > CORE_LINES)


def library() -> dict[str, str]:
    return {
        ".".join(path.relative_to(LIBRARY).with_suffix("").parts): path.read_text(encoding="utf8")
        for path in sorted((LIBRARY / "atelier").rglob("*.py"))
    }


def test_no_commit_names_a_registry_or_a_build_machine() -> None:
    assert [
        leak for path in committed_files(ROOT) for leak in leaks(str(path.relative_to(ROOT)), path.read_bytes())
    ] == []


def test_repository_stays_small() -> None:
    sizes = {path.relative_to(ROOT): path.stat().st_size for path in committed_files(ROOT)}
    assert sum(size for path, size in sizes.items() if path.parts[0] == "data") <= DATA_LIMIT
    assert sum(sizes.values()) <= TREE_LIMIT


def test_arrows_point_one_way() -> None:
    modules = library()
    assert modules, "lib/atelier has no modules"
    assert wrong_arrows(modules, {_room(name) for name in modules} - {"__init__"}) == []


def test_files_are_short_enough_to_read() -> None:
    package = LIBRARY / "atelier"
    paths = [*(package / "blocks").rglob("*.py"), package / "pipeline.py"]
    counts = {path.relative_to(package).as_posix(): path.read_text(encoding="utf8").count("\n") for path in paths}
    assert too_long(counts) == []


@pytest.mark.parametrize(
    "line",
    [
        b"--index-url https://" + b"pyp" + b"i.org/simple",
        b'"resolved": "https://registry.npm' + b'js.org/marked"',
        b"https://files.python" + b"hosted.org/packages",
        b"deb http://deb.debian" + b".org/debian stable main",
        b"open('/wor" + b"k/main/data')",
        b"/tm" + b"p/drawing.png",
        b'File "/hom' + b'e/ada/atelier/lib"',
        b"C:\\\\User" + b"s\\\\ada",
    ],
)
def test_gate_sees_leaks(line: bytes) -> None:
    assert len(leaks("file", b"one\n" + line + b"\n")) == 1
    assert leaks("file", b"one\n" + line)[0].startswith("file:2 names")


@pytest.mark.parametrize("line", [b"https://example.org/work/of/art", b"../work/notes", b"data/tmp/x", b"~/.cache"])
def test_gate_lets_harmless_lines_pass(line: bytes) -> None:
    assert leaks("file", line) == []


ROOMS = ["errors", "blocks", "world", "weights", "decoding", "training", "pipeline", "teaching", "app", "cli"]


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("atelier.blocks.vq", "import numpy"),
        ("atelier.blocks.vq", "def late():\n    from transformers import BartModel"),
        ("atelier.blocks.vq", "from atelier.weights import load"),
        ("atelier.blocks.vq", "from ..world import Scene"),
        ("atelier.errors", "from atelier.blocks.vq import VQ"),
        ("atelier.blocks.__init__", "from .. import pipeline"),
        ("atelier.blocks.vq", "from atelier import Pipeline"),
        ("atelier.world.painter", "from PIL import Image"),
        ("atelier.weights.presets", "from atelier.training import loop"),
        ("atelier.decoding", "from atelier.weights import load"),
        ("atelier.training.loop", "import atelier.pipeline"),
        ("atelier.pipeline", "from .teaching import plots"),
        ("atelier.pipeline", "from atelier import cli"),
    ],
)
def test_gate_sees_wrong_arrows(module: str, code: str) -> None:
    assert len(wrong_arrows({module: code}, ROOMS)) == 1


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("atelier.blocks.vqgan", "import math\nimport torch.nn.functional as F\nfrom atelier.blocks.vq import VQ"),
        ("atelier.blocks.vqgan", "from . import vq\nfrom .vq import VectorQuantizer"),
        ("atelier.world.scenes", "from atelier.errors import AtelierError"),
        ("atelier.world.__init__", "from .scene import Scene\nfrom dataclasses import dataclass"),
        ("atelier.training.loop", "import accelerate\nfrom atelier import blocks, weights, world"),
        ("atelier.pipeline", "from .weights import load\nfrom .decoding import decode"),
        ("atelier.cli", "import typer\nfrom atelier import Pipeline, app, teaching"),
        ("atelier.__init__", "from atelier.pipeline import Pipeline"),
    ],
)
def test_gate_lets_right_arrows_pass(module: str, code: str) -> None:
    assert wrong_arrows({module: code}, ROOMS) == []


def test_gate_sees_long_files() -> None:
    assert len(too_long({"blocks/bart.py": BLOCK_LINES + 1})) == 1
    full = {"blocks/a.py": 600, "blocks/b.py": 600, "blocks/c.py": 600, "pipeline.py": 200}
    assert len(too_long(full | {"pipeline.py": 201})) == 1
    assert too_long(full | {"decoding.py": 1000}) == []


def test_without_git_the_ignored_files_stay_out(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("# caches\n.venv/\n*.egg-info/\ndrawing.png\n")
    for name in ("lib/a.py", ".venv/bin/python", "lib/x.egg-info/PKG-INFO", "drawing.png", "data/card.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in committed_files(tmp_path)]
    assert found == [".gitignore", "data/card.md", "lib/a.py"]


def test_a_skip_fails_unless_only_hardware_is_missing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = hardware: may be skipped\n")
    (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_package')\n")
    (tmp_path / "test_cases.py").write_text(
        "import pytest\n"
        "def test_skips(): pytest.skip('no time')\n"
        "@pytest.mark.skipif(True, reason='no mood')\n"
        "def test_is_skipped(): pass\n"
        "@pytest.mark.hardware\n"
        "def test_needs_a_device(): pytest.skip('no device')\n"
        "@pytest.mark.xfail\n"
        "def test_is_known_to_fail(): assert False\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--continue-on-collection-errors"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        encoding="utf8",
    )
    assert result.returncode == 1
    assert "1 failed, 1 skipped, 1 xfailed, 2 errors" in result.stdout
    for test in ("test_module.py", "test_cases.py::test_skips", "test_cases.py::test_is_skipped"):
        assert f"{test} was skipped" in result.stdout
