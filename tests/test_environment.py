"""pyproject.toml, requirements.txt, environment.yml and the Makefile tell one story."""

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from atelier.errors import OPTIONAL_PACKAGES
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from rattler import MatchSpec

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))
PROJECT, GROUPS = CONFIGURATION["project"], CONFIGURATION["dependency-groups"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf8"))
LEARNER, DEVELOPER = "requirements.txt", "requirements-dev.txt"
PINS_TEXT = {name: (ROOT / name).read_text(encoding="utf8") for name in (LEARNER, DEVELOPER)}
LEARNERS_EXTRAS = ("lessons", "page", "published")

PYTHONS = [f"3.{minor}" for minor in range(11, 15)]
PLATFORMS = [
    {"sys_platform": "linux", "os_name": "posix", "platform_system": "Linux", "platform_machine": "x86_64"},
    {"sys_platform": "darwin", "os_name": "posix", "platform_system": "Darwin", "platform_machine": "arm64"},
    {"sys_platform": "win32", "os_name": "nt", "platform_system": "Windows", "platform_machine": "AMD64"},
]


def wanted(file: str = DEVELOPER) -> list[Requirement]:
    """The dependencies in pyproject.toml that a file of pins must have."""
    extras = PROJECT["optional-dependencies"]
    chosen = LEARNERS_EXTRAS if file == LEARNER else tuple(extras)
    groups = [PROJECT["dependencies"], *(extras[name] for name in chosen)]
    if file == DEVELOPER:
        groups += GROUPS.values()
    return [Requirement(line) for group in groups for line in group if isinstance(line, str)]


def read_pins(text: str) -> list[tuple[Requirement, list[str]]]:
    """The requirements of a pip file without its comments, each with what follows it on its continued lines."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [(Requirement(head), rest.split()) for head, _, rest in (line.partition(" --") for line in lines)]


def pins_for(file: str, python: str, platform: dict[str, str]) -> dict[str, str]:
    """Name -> version of what a file of pins installs there; fails where a package would come in two versions."""
    place = {**platform, "python_version": python, "python_full_version": f"{python}.9"}
    pins: dict[str, str] = {}
    for requirement, _ in read_pins(PINS_TEXT[file]):
        if requirement.marker is None or requirement.marker.evaluate(place):
            name = canonicalize_name(requirement.name)
            assert name not in pins, f"{name} is pinned twice for Python {python} on {platform['platform_system']}"
            pins[name] = next(iter(requirement.specifier)).version
    return pins


@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda platform: platform["platform_system"])
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("file", PINS_TEXT)
def test_every_dependency_is_pinned_inside_its_range(file: str, python: str, platform: dict[str, str]) -> None:
    pins = pins_for(file, python, platform)
    for requirement in wanted(file):
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in {file}: run `make lock`"
        assert requirement.specifier.contains(version), f"{version} is outside {requirement}: run `make lock`"


@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda platform: platform["platform_system"])
def test_a_developer_has_the_packages_of_a_learner_and_more(platform: dict[str, str]) -> None:
    learner, developer = (pins_for(file, "3.12", platform) for file in (LEARNER, DEVELOPER))
    assert learner.items() < developer.items()


def test_a_learner_is_spared_the_tools_of_developers() -> None:
    learner = {canonicalize_name(requirement.name) for requirement, _ in read_pins(PINS_TEXT[LEARNER])}
    needed = {canonicalize_name(requirement.name) for requirement in wanted(LEARNER)}
    tools = {
        canonicalize_name(Requirement(line).name)
        for lines in GROUPS.values()
        for line in lines
        if isinstance(line, str)
    }
    assert learner & (tools - needed) <= {"pytest", "pyyaml"}  # which nbval and transformers need


def test_the_optional_packages_are_those_of_the_extras() -> None:
    extras = [Requirement(line) for lines in PROJECT["optional-dependencies"].values() for line in lines]
    not_imported = {"jupyterlab", "jupytext", "nbval", "onnxruntime"}  # by the library
    assert {requirement.name for requirement in extras} - not_imported == set(OPTIONAL_PACKAGES.values())


@pytest.mark.parametrize("file", PINS_TEXT)
def test_every_pin_is_exact_and_hashed(file: str) -> None:
    pins = read_pins(PINS_TEXT[file])
    assert len(pins) > 100
    for requirement, hashes in pins:
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
        assert "*" not in str(requirement.specifier), requirement
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"(--)?hash=sha256:[0-9a-f]{64}", text) for text in hashes), requirement


@pytest.mark.parametrize("file", PINS_TEXT)
def test_pins_name_no_place(file: str) -> None:
    text = PINS_TEXT[file]
    assert "://" not in text
    assert all(requirement.url is None for requirement, _ in read_pins(text))
    options = re.findall(r"^\s*(-\w|--(?!hash=)[\w-]+)", text, flags=re.MULTILINE)
    assert options == []


@pytest.mark.parametrize(
    "installed", ["torch==2.11.0", "torchvision==0.26.0", "transformers==5.17.0", "ipywidgets==7.7.1", "numpy==2.0.2"]
)
def test_ranges_admit_the_environments_people_have(installed: str) -> None:
    name, _, version = installed.partition("==")
    (requirement,) = [requirement for requirement in wanted() if requirement.name == name]
    assert requirement.specifier.contains(version)
    assert SpecifierSet(PROJECT["requires-python"]).contains("3.12")


def test_conda_makes_the_same_environment() -> None:
    *specs, pip = ENVIRONMENT["dependencies"]
    ranges = dict(str(MatchSpec(spec)).partition(" ")[::2] for spec in specs)
    assert ENVIRONMENT["name"] == "atelier"
    assert set(ranges) == {"python", "pip"}
    assert pip == {"pip": ["-r requirements.txt"]}, "pip refuses an editable folder beside hashes: see environment.yml"

    allowed, offered = SpecifierSet(PROJECT["requires-python"]), SpecifierSet(ranges["python"])
    everywhere = [f"3.{minor}" for minor in range(6, 30)]
    assert [python for python in everywhere if python in offered] == PYTHONS
    assert all(python in allowed for python in PYTHONS)
    assert next(python for python in everywhere if python in allowed) == PYTHONS[0]


def test_binder_installs_the_package_in_a_second_command() -> None:
    hook = ROOT / "postBuild"
    assert hook.stat().st_mode & stat.S_IXUSR
    assert "pip install --no-deps --editable ." in hook.read_text(encoding="utf8")
    assert "pip install --no-deps --editable ." in (ROOT / "environment.yml").read_text(encoding="utf8")


def write_command(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a blank in its name that is set up, and whose `atelier` command writes down what it was given."""
    folder = tmp_path / "a check'out"
    folder.mkdir()
    for name in ("Makefile", LEARNER, DEVELOPER, "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    write_command(
        folder / ".venv/bin/python", 'test "$1" = -c'
    )  # it can be asked for its version, and installs nothing
    write_command(folder / ".venv/bin/atelier", 'printf "%s\\0" "$@" > given')
    (folder / ".venv/setup-done").write_text(f"{folder}\n")
    (folder / ".venv/developer-done").touch()
    return folder


def run_make(folder: Path, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run make in `folder` as a shell would start it, without what a make that runs these tests hands down."""
    dropped = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PROMPT", "OUT", "PYTHON", "ATELIER_PROMPT", "ATELIER_OUT"}
    environment = {name: text for name, text in os.environ.items() if name not in dropped}
    if path is not None:
        environment["PATH"] = path
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, encoding="utf8", timeout=60
    )


@pytest.mark.parametrize(
    "prompt",
    [
        "the Eiffel tower landing on the moon",
        "Hokusai's wave, \"great\" and 'small'",
        "$5, $(shell touch broken) $HOME $$ ${PATH} `touch broken` $",
        "50 % off # not a comment; touch broken & | > broken",
        "back\\slash \\n at the end \\",
        "--help",
        "-- a = b := c",
        "草莓 🍓 é \t tab",
    ],
)
@pytest.mark.parametrize("out", [None, 'my $(x) drawing\'s "best".png'])
def test_make_draw_hands_on_every_prompt_as_typed(checkout: Path, prompt: str, out: str | None) -> None:
    result = run_make(checkout, "draw", f"PROMPT={prompt}", *([f"OUT={out}"] if out else []))
    assert result.returncode == 0, result.stderr
    assert (checkout / "given").read_bytes().decode().split("\0")[:-1] == [
        "draw",
        "--out",
        out or "drawing.png",
        "--",
        prompt,
    ]
    assert not (checkout / "broken").exists()


def test_make_draw_without_a_prompt_says_what_to_type(checkout: Path) -> None:
    result = run_make(checkout, "draw")
    assert result.returncode != 0
    assert 'make draw PROMPT="' in result.stderr
    assert not (checkout / "given").exists()


def test_make_lists_its_targets(checkout: Path) -> None:
    listed = run_make(checkout).stdout
    for target in ("setup", "draw", "lab", "test", "test-all", "bench", "lock", "clean"):
        assert re.search(rf"^make {target} +\w", listed, flags=re.MULTILINE), target


def test_setup_names_the_python_it_needs(checkout: Path) -> None:
    old = write_command(checkout / "old pythons/python3", "exit 1")
    (checkout / ".venv/setup-done").write_text("/elsewhere\n")
    result = run_make(checkout, "setup", f"PYTHON={old}")
    assert result.returncode != 0
    assert "Atelier needs Python 3.11 or newer" in result.stderr
    assert str(old) in result.stderr


def test_setup_names_the_package_that_debian_leaves_out(checkout: Path) -> None:
    bare = write_command(
        checkout / "bare/python3", f'case "$*" in *ensurepip*) exit 1 ;; *) exec "{sys.executable}" "$@" ;; esac'
    )
    (checkout / ".venv/setup-done").write_text("/elsewhere\n")
    result = run_make(checkout, "setup", f"PYTHON={bare}")
    assert result.returncode != 0
    assert "sudo apt install python3." in result.stderr


def test_setup_looks_for_another_python_when_the_first_is_too_old(checkout: Path) -> None:
    pythons = checkout / "pythons"
    for name in ("python3", "python3.14", "python3.13"):
        write_command(pythons / name, "exit 1")
    write_command(
        pythons / "python3.12",
        f'case "$*" in "-m venv"*) touch chosen; exit 7 ;; *) exec "{sys.executable}" "$@" ;; esac',
    )
    (checkout / ".venv/setup-done").write_text("/elsewhere\n")
    result = run_make(checkout, "setup", path=f"{pythons}:/usr/bin:/bin")
    assert result.returncode != 0
    assert (checkout / "chosen").exists()


def test_a_moved_checkout_is_set_up_anew(checkout: Path) -> None:
    assert run_make(checkout, "--question", "setup").returncode == 0
    moved = checkout.rename(checkout.parent / "elsewhere")
    assert run_make(moved, "--question", "setup").returncode == 1


def test_new_pins_are_installed(checkout: Path) -> None:
    later = (checkout / ".venv/setup-done").stat().st_mtime + 10
    os.utime(checkout / "requirements.txt", (later, later))
    assert run_make(checkout, "--question", "setup").returncode == 1


def test_new_developers_pins_are_installed_for_developers_only(checkout: Path) -> None:
    later = (checkout / ".venv/setup-done").stat().st_mtime + 10
    os.utime(checkout / DEVELOPER, (later, later))
    assert run_make(checkout, "--question", "setup").returncode == 0
    assert run_make(checkout, "--question", "develop").returncode == 1


def test_setup_without_cuda_takes_torch_from_the_place_of_its_cpu_builds(checkout: Path) -> None:
    """With a Python that writes down what it is asked to install."""
    write_command(checkout / ".venv/bin/python", 'test "$1" = -c && exit 0; echo "$*" >> asked')
    os.utime(checkout / LEARNER, (2e9, 2e9))
    assert run_make(checkout, "setup", "TORCH=cpu").returncode == 0
    torch, rest = [line for line in (checkout / "asked").read_text().splitlines() if "uv pip install" in line][:2]
    pins = {requirement.name: str(requirement) for requirement, _ in read_pins(PINS_TEXT[LEARNER])}
    assert torch.split(" install ")[1].split()[2:] == ["--torch-backend", "cpu", pins["torch"], pins["torchvision"]]
    assert "--require-hashes --excludes .venv/cuda.txt -r requirements.txt" in rest
    excluded = set((checkout / ".venv/cuda.txt").read_text().split())
    linux = {name for name in pins if name.startswith(("nvidia-", "cuda-")) or name == "triton"}
    assert excluded == linux


def test_every_environment_variable_is_documented() -> None:
    """Those that the library reads, or that make sets."""
    library = "".join(path.read_text(encoding="utf8") for path in (ROOT / "lib").rglob("*.py"))
    read = set(re.findall(r'(?:environ(?:\.get)?[\[(]|getenv\(|parse_flag_from_env\()"([A-Z_]+)"', library))
    read |= set(re.findall(r"^export ([A-Z_]+)", (ROOT / "Makefile").read_text(encoding="utf8"), flags=re.MULTILINE))
    read |= set(re.findall(r'"(ATELIER_[A-Z_]+)"', library))  # also by a name, or as an option's default
    assert len(read) >= 7
    described = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf8").split("## Environment variables")[1]
    assert [name for name in sorted(read) if f"`{name}`" not in described.split("\n## ")[0]] == []
