"""Build the site into build/site/html: `make site`. It fetches nothing from other servers, and works from a disk."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from sphinx.cmd.build import build_main

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "notebooks" / "source" / "tools"))

from models import write_models  # noqa: E402  (they need the folder named above)
from stage import stage  # noqa: E402

PACKAGES = HERE / "node_modules"
PALETTE = ROOT / "lib" / "atelier" / "page" / "static" / "palette.css"  # the page's colours are the site's
SCRIPTS = ("controls.js", "search.js", "claims.js")
BUILT = ROOT / "build" / "site"
WEIGHTS_OF_TYPE = {"next": (400, 500, 700, 800), "mono": (400, 700)}
FAMILIES = {"next": "Atkinson Hyperlegible Next", "mono": "Atkinson Hyperlegible Mono"}


def vendor(static: Path) -> None:
    """Copy what pages fetch into the folder `static`: typeface, MathJax, ipywidgets, and the models that draw.

    Raises:
        FileNotFoundError: the packages of npm are not installed.
    """
    if not PACKAGES.is_dir():
        raise FileNotFoundError("docs/site/node_modules is missing: run `npm ci` in docs/site, or `make site`.")
    english = {f"{language}.json" for language in ("base", "en", "nemeth")}  # for screen readers, in English only

    def other_languages(folder: str, names: list[str]) -> set[str]:
        return set(names) - english if Path(folder).name == "mathmaps" else set()

    static.mkdir(parents=True)
    sheets = [PALETTE, HERE / "static" / "site.css"]
    (static / "site.css").write_text(_faces(static) + "\n".join(sheet.read_text(encoding="utf-8") for sheet in sheets))
    mathjax = static / "mathjax"
    for part in ("a11y", "input", "sre", "ui"):
        shutil.copytree(PACKAGES / "mathjax" / part, mathjax / part, ignore=other_languages)
    shutil.copy(PACKAGES / "mathjax" / "tex-chtml.js", mathjax)
    shutil.copytree(PACKAGES / "@mathjax" / "mathjax-newcm-font" / "chtml", mathjax / "newcm" / "chtml")
    widgets = static / "widgets"
    widgets.mkdir()
    shutil.copy(PACKAGES / "@jupyter-widgets" / "html-manager" / "dist" / "embed.js", widgets)
    for script in SCRIPTS:
        shutil.copy(HERE / "static" / script, static)
    shutil.copy(ROOT / "slides" / "figures" / "hero-5.png", static / "logo.png")
    at_the_top = shutil.ignore_patterns("service-worker.js")  # a service worker serves its own folder only
    drawing = shutil.copytree(HERE / "drawing", static / "drawing", ignore=at_the_top)
    write_models(static / "models", Path(drawing))


def _faces(static: Path) -> str:
    """Copy the typeface's files into the folder `static`, and return the CSS rules that name them."""
    fonts = static / "fonts"
    fonts.mkdir()
    rules = []
    for kind, weights in WEIGHTS_OF_TYPE.items():
        folder = PACKAGES / "@fontsource" / f"atkinson-hyperlegible-{kind}" / "files"
        for weight in weights:
            for style in ("normal", "italic"):
                name = f"atkinson-hyperlegible-{kind}-latin-{weight}-{style}.woff2"
                shutil.copy(folder / name, fonts)
                rules.append(
                    f"@font-face {{ font-family: '{FAMILIES[kind]}'; font-weight: {weight}; font-style: {style}; "
                    f"font-display: swap; src: url('fonts/{name}') format('woff2'); }}\n"
                )
    return "".join(rules) + "\n"


def main(
    target: Annotated[Path, typer.Option(help="The folder to build in. An earlier build in it is deleted.")] = BUILT,
) -> None:
    """Build the site into TARGET/html."""
    source, html = target / "source", target / "html"
    for folder in (source, html):
        shutil.rmtree(folder, ignore_errors=True)
    stage(source)
    vendor(source / "_static")
    strict = ["--fail-on-warning", "--keep-going", "--quiet"]
    status = build_main(["-b", "html", *strict, "-d", str(target / "doctrees"), str(source), str(html)])
    if status:
        raise typer.Exit(status)
    typer.echo(f"The site is in {html}: open index.html, or put the folder on a web server.")


if __name__ == "__main__":
    typer.run(main)
