"""The dev container and Binder: what they read is valid, and agrees with the rest of the course."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from atelier.doctor import LEAST_MEMORY, PORTS
from packaging.specifiers import SpecifierSet
from rattler import MatchSpec

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
KNOWN = {  # of the dev container specification, what a container made from an image may have
    *("name", "image", "hostRequirements", "onCreateCommand", "updateContentCommand", "postCreateCommand"),
    *("forwardPorts", "portsAttributes", "customizations", "containerEnv", "remoteUser", "features"),
}


@pytest.fixture(scope="module")
def container() -> dict[str, Any]:
    return json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))


def test_container_says_only_what_the_specification_knows(container) -> None:
    assert not container.keys() - KNOWN
    assert container["customizations"].keys() == {"vscode"}
    assert container["hostRequirements"].keys() == {"cpus", "memory", "storage"}
    assert all(re.fullmatch(r"\d+(kb|mb|gb|tb)", container["hostRequirements"][what]) for what in ("memory", "storage"))


def test_container_needs_no_gpu(container) -> None:
    assert "gpu" not in json.dumps(container).lower()
    assert int(container["hostRequirements"]["memory"].removesuffix("gb")) >= 2 * LEAST_MEMORY


def test_containers_python_is_one_that_the_course_takes(container) -> None:
    python = container["image"].rsplit(":", 1)[1]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    (versions,) = [MatchSpec(spec).version for spec in conda if str(spec).startswith("python ")]
    assert python in SpecifierSet(str(versions))


def test_container_is_set_up_by_make_and_uses_what_make_made(container) -> None:
    command, target = container["onCreateCommand"].split()
    assert (command, bool(re.search(rf"^{target}:", MAKEFILE, flags=re.M))) == ("make", True)
    venv = re.search(r"^VENV := (\S+)$", MAKEFILE, flags=re.M)
    assert venv
    interpreter = container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert interpreter == f"${{containerWorkspaceFolder}}/{venv[1]}/bin/python"


def test_container_forwards_the_ports_of_the_course(container) -> None:
    assert container["forwardPorts"] == list(PORTS)
    assert container["portsAttributes"].keys() == {str(port) for port in PORTS}


def test_binder_runs_its_hook_from_the_folder_of_the_course(tmp_path: Path) -> None:
    """With a Python that writes down what it is asked, and names the folder of its environment."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$PWD: $*" >> "$NOTED"\necho {tmp_path}\n', encoding="utf-8")
    python.chmod(0o755)
    noted = tmp_path / "noted"
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "NOTED": str(noted)}
    subprocess.run(["bash", str(ROOT / "postBuild")], cwd=ROOT, env=environment, check=True)
    folder, asked = noted.read_text(encoding="utf-8").splitlines()[0].split(": ", 1)
    assert Path(folder).samefile(ROOT)
    assert asked == "-m pip install --no-deps --editable ."
    settings = tmp_path / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    assert settings.read_bytes() == (ROOT / "notebooks" / "source" / "lab" / "overrides.json").read_bytes()


def test_all_that_binder_and_container_install_is_the_pinned_list() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert {"pip": ["-r requirements.txt"]} in conda
    assert re.search(r"\$\(PIP\) --require-hashes .*-r requirements\.txt$", MAKEFILE, flags=re.M)
    assert "conda" not in MAKEFILE
    assert not any((ROOT / name).exists() for name in ("binder", ".binder", "apt.txt", "Dockerfile"))
