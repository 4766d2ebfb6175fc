"""Code that follows other projects names its source and licence, also in the installed package."""

import tomllib
from pathlib import Path

import pytest
from hatchling import build

ROOT = Path(__file__).parents[1]
SOURCES = {
    "DALL·E Mini": ("2021 The DALL·E mini Authors", "Apache License"),
    "wordninja": ("2017 Derek Anderson", "MIT licence"),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("file", ["NOTICE", "lib/atelier/weights/normalizers.py"])
def test_source_holder_and_licence_are_named(file: str, source: str) -> None:
    text = " ".join((ROOT / file).read_text(encoding="utf-8").split())
    assert source in text
    for words in SOURCES[source]:
        assert words in text


def test_the_licences_are_complete() -> None:
    assert "Permission is hereby granted, free of charge" in (ROOT / "NOTICE").read_text(encoding="utf-8")
    apache = (ROOT / "LICENSES" / "Apache-2.0.txt").read_text(encoding="utf-8")
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in apache
    assert "END OF TERMS AND CONDITIONS" in apache
    fonts = (ROOT / "LICENSES" / "OFL-1.1.txt").read_text(encoding="utf-8")
    assert "Atkinson Hyperlegible Next Project Authors" in fonts
    assert "SIL OPEN FONT LICENSE Version 1.1" in fonts


def test_the_licences_are_installed_with_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    made = tmp_path / build.prepare_metadata_for_build_editable(str(tmp_path))
    metadata = (made / "METADATA").read_text(encoding="utf-8")
    assert f"License-Expression: {project['license']}" in metadata
    for file in ("LICENSE", "NOTICE", "LICENSES/Apache-2.0.txt", "LICENSES/OFL-1.1.txt"):
        assert f"License-File: {file}" in metadata
