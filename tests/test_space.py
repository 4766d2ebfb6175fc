"""The files of the Hugging Face Space: what they say fits together, and app.py serves the page with them alone."""

import importlib.metadata
import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "docs" / "space"
OPTIONAL = {"defusedxml", "python-multipart"}  # Pillow and Starlette import them if they are there
LOADED = "import runpy, sys; sys.argv = ['app.py']; runpy.run_path('app.py'); print(*sorted(sys.modules), sep='\\n')"


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("made") / "space"
    subprocess.run([sys.executable, SOURCE / "make_space.py", "--target", target], check=True, capture_output=True)
    return target


def environment(space: Path) -> dict[str, str]:
    """Without the checkout on the path."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "ATELIER_DATA")}
    return kept | {"HOME": str(space)}


@pytest.fixture
def address(space: Path) -> Iterator[str]:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port = asked.getsockname()[1]
    known = environment(space) | {"PORT": str(port), "SPACE_HOST": "owner-atelier.hf.space"}
    server = subprocess.Popen([sys.executable, "app.py"], cwd=space, env=known, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert "The page is at" in server.stdout.readline()
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(30)


def test_the_page_is_served_inside_the_hubs_frame(address: str) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    asked = urllib.request.Request(f"{address}/", headers={"Host": "owner-atelier.hf.space"})
    with direct.open(asked, timeout=60) as answer:
        assert "frame-ancestors https://huggingface.co" in answer.headers["Content-Security-Policy"]
        assert "DRAW" in answer.read().decode()
    body = json.dumps({"prompt": "a red cat", "n": 1}).encode()
    request = urllib.request.Request(f"{address}/draw", body, {"Content-Type": "application/json"})
    with direct.open(request, timeout=120) as answer:
        assert json.loads(list(answer)[-1])["progress"] == 1


def test_the_header_and_the_dockerfile_agree() -> None:
    header = yaml.safe_load((SOURCE / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert header["sdk"] == "docker"
    assert header["app_port"] == 7860
    assert len(header["short_description"]) <= 60
    dockerfile = (SOURCE / "Dockerfile").read_text(encoding="utf-8")
    assert 'CMD ["python", "app.py"]' in dockerfile
    copied = re.findall(r"^COPY (?:--\S+ )?(\S+)", dockerfile, re.MULTILINE)
    assert copied == ["requirements.txt", "."]


def test_the_requirements_have_all_that_the_page_imports(space: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=space, env=environment(space), capture_output=True, text=True, check=True
    )
    tops = {name.partition(".")[0] for name in shown.stdout.split()}
    homes = importlib.metadata.packages_distributions()
    imported = {home.lower().replace("_", "-") for top in tops for home in homes.get(top, ())}
    given = with_their_own((SOURCE / "requirements.txt").read_text(encoding="utf-8").split())
    assert imported - given - OPTIONAL == {"atelier"} & imported


def with_their_own(names: list[str]) -> set[str]:
    """Packages, and all that they require."""
    found: set[str] = set()
    while names:
        name = names.pop().lower().replace("_", "-")
        if name not in found:
            found.add(name)
            needed = map(Requirement, importlib.metadata.requires(name) or ())
            names += [each.name for each in needed if not each.marker or each.marker.evaluate({"extra": ""})]
    return found
