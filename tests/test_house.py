"""The gate of the house: what may not be committed, how large it may grow, and which module may import which."""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grimp
import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "lib"

MEGABYTE = 10**6
DATA_LIMIT = 45 * MEGABYTE
TREE_LIMIT = 60 * MEGABYTE
BLOCK_LINES = 500
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


def lint() -> int:
    """Check the contracts of pyproject.toml; 0 if all are kept."""
    with pytest.MonkeyPatch.context() as patch:  # its set-up of logging would switch off the loggers of later tests
        patch.setattr("importlinter.cli._configure_logging", lambda verbose: None)
        return lint_imports(config_filenames=(str(ROOT / "pyproject.toml"),), no_cache=True, no_logo=True)


def foreign_imports(graph: grimp.ImportGraph, packages: Iterable[str]) -> list[str]:
    """A sentence for every module of the packages that imports anything but torch, Python's own library and Atelier."""
    allowed = {"atelier", "torch", *sys.stdlib_module_names}
    return [
        f"{module} imports {imported}; {package} may import only torch"
        for package in packages
        for module in sorted({package} | graph.find_descendants(package))
        for imported in sorted(graph.find_modules_directly_imported_by(module))
        if imported.partition(".")[0] not in allowed
    ]


def too_long(lines: dict[str, int]) -> list[str]:
    """A sentence for every block's file that is too long; `lines` maps a file's name to its number of lines."""
    return [
        f"{name} has {count} lines, more than {BLOCK_LINES}" for name, count in lines.items() if count > BLOCK_LINES
    ]


def test_no_commit_names_a_registry_or_a_build_machine() -> None:
    assert [
        leak for path in committed_files(ROOT) for leak in leaks(str(path.relative_to(ROOT)), path.read_bytes())
    ] == []


def test_repository_stays_small() -> None:
    sizes = {path.relative_to(ROOT): path.stat().st_size for path in committed_files(ROOT)}
    assert sum(size for path, size in sizes.items() if path.parts[0] == "data") <= DATA_LIMIT
    assert sum(sizes.values()) <= TREE_LIMIT


def test_every_module_imports_only_what_it_may(capsys: pytest.CaptureFixture[str]) -> None:
    """The contracts are in pyproject.toml."""
    passed = lint() == 0
    assert passed, capsys.readouterr().out


def test_blocks_and_world_import_only_torch() -> None:
    graph = grimp.build_graph("atelier", include_external_packages=True, cache_dir=None)
    assert foreign_imports(graph, ["atelier.blocks", "atelier.world"]) == []


def test_files_of_blocks_are_short_enough_to_read() -> None:
    paths = (LIBRARY / "atelier" / "blocks").glob("*.py")
    assert too_long({path.name: path.read_text(encoding="utf8").count("\n") for path in paths}) == []


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


FORBIDDEN_IMPORTS = [
    ("atelier.blocks.vq", "atelier.weights.preset"),  # upwards
    ("atelier.blocks.vq", "atelier.world"),  # sideways
    ("atelier.training.loop", "atelier.drawing.pipeline"),
    ("atelier.drawing.pipeline", "atelier.teaching.figures"),
    ("atelier.blocks.autoencoder", "atelier.blocks.vq"),  # a circle: vq imports autoencoder
]


@pytest.mark.parametrize(("importer", "imported"), FORBIDDEN_IMPORTS)
def test_gate_sees_a_forbidden_import(importer: str, imported: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build = grimp.build_graph

    def with_one_more(*names: str, **options: Any) -> grimp.ImportGraph:
        graph = build(*names, **options)
        graph.add_import(importer=importer, imported=imported)
        return graph

    monkeypatch.setattr(grimp, "build_graph", with_one_more)
    assert lint() == 1


@pytest.mark.parametrize("imported", ["numpy", "transformers"])
def test_gate_sees_a_foreign_import(imported: str) -> None:
    graph = grimp.build_graph("atelier", include_external_packages=True, cache_dir=None)
    graph.add_import(importer="atelier.blocks.vq", imported=imported)
    assert foreign_imports(graph, ["atelier.blocks"]) == [
        f"atelier.blocks.vq imports {imported}; atelier.blocks may import only torch"
    ]


def test_gate_sees_long_files() -> None:
    assert too_long({"bart.py": BLOCK_LINES + 1}) == [f"bart.py has {BLOCK_LINES + 1} lines, more than {BLOCK_LINES}"]
    assert too_long({"bart.py": BLOCK_LINES}) == []


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
