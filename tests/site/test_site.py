"""The files of the site: all pages exist, all links work, and nothing is fetched from other servers."""

import base64
import html
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import gallery
import lessons
import make_site
import pytest
import reference
import stage
import yaml
from atelier.teaching.claims import CLAIMS
from atelier.teaching.glossary import TERMS
from atelier.teaching.lessons import LESSONS
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

FETCHED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
FETCHED_LINKS = {"stylesheet", "icon", "preload", "shortcut icon", "manifest", "preconnect", "dns-prefetch"}


@dataclass
class Read(HTMLParser):
    """A page, read.

    Attributes:
        anchors: ids and names.
        links: addresses of its links.
        fetched: addresses that a browser fetches to show it.
        speechless: its pictures without alternative text.
    """

    anchors: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    fetched: set[str] = field(default_factory=set)
    speechless: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = {name: value or "" for name, value in attrs}
        self.anchors |= {facts[name] for name in ("id", "name") if facts.get(name)}
        if tag == "a" and "href" in facts:
            self.links.add(facts["href"])
        if tag == "link" and facts.get("rel") in FETCHED_LINKS:
            self.fetched.add(facts["href"])
        if tag in FETCHED and facts.get(FETCHED[tag]):
            self.fetched.add(facts[FETCHED[tag]])
        if tag == "img" and "alt" not in facts:
            self.speechless.append(facts.get("src", ""))


@cache
def read(page: Path) -> Read:
    found = Read()
    found.feed(page.read_text(encoding="utf-8"))
    return found


def pages(site: Path) -> list[Path]:
    """All pages that Sphinx has built; the deck has its own tests."""
    return sorted(page for page in site.rglob("*.html") if "built" not in page.parts)


def is_elsewhere(address: str) -> bool:
    return bool(urlsplit(address).scheme or urlsplit(address).netloc) and not address.startswith(("data:", "mailto:"))


def dead(page: Path, address: str) -> str | None:
    """What is wrong with a link within the site, or None."""
    parts = urlsplit(address)
    target = page if not parts.path else (page.parent / unquote(parts.path)).resolve()
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        return f"{page.name}: {address} leads nowhere"
    if parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in read(target).anchors:
        return f"{page.name}: {address} names an anchor that is not there"
    return None


def test_every_link_within_the_site_works(site: Path) -> None:
    found = [
        fault
        for page in pages(site)
        for address in read(page).links | read(page).fetched
        if not is_elsewhere(address) and not address.startswith(("data:", "mailto:"))
        if (fault := dead(page, address))
    ]
    assert found == []
    assert sum(len(read(page).links) for page in pages(site)) > 3000  # so that an empty site does not pass


def test_the_search_for_dead_links_finds_one(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<a href="none.html">x</a><a href="#none">x</a><h1 id="here"></h1>')
    faults = [dead(page, address) for address in ("none.html", "#none", "#here", "page.html#here")]
    assert [bool(fault) for fault in faults] == [True, True, False, False]


def test_pages_fetch_nothing_from_other_servers(site: Path) -> None:
    asked = {(page.name, address) for page in pages(site) for address in read(page).fetched if is_elsewhere(address)}
    assert asked == set()
    for sheet in site.rglob("*.css"):
        named = re.findall(
            r"(?:url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8", errors="replace")
        )
        assert named == [], sheet


def test_every_picture_has_an_alternative_text(site: Path) -> None:
    assert [(page.name, read(page).speechless) for page in pages(site) if read(page).speechless] == []


def test_every_lesson_module_term_and_claim_is_on_the_site(site: Path) -> None:
    assert {f"{lesson.name}.html" for lesson in LESSONS.values()} <= {
        page.name for page in (site / "notebooks").iterdir()
    }
    assert {f"{lesson.name}.ipynb" for lesson in LESSONS.values()} <= {
        page.name for page in (site / "notebooks").iterdir()
    }
    modules = set(reference.modules())
    assert {page.stem for page in (site / "api").iterdir()} == modules | {"index"}
    assert {"atelier", "atelier.blocks.vq", "atelier.drawing.pipeline", "atelier.world.painter"} <= modules
    glossary = html.unescape((site / "glossary.html").read_text(encoding="utf-8"))
    assert [name for name in TERMS if name not in glossary] == []
    claims = read(site / "notebooks" / "CLAIMS.html").links
    assert len([link for link in claims if "#claim-" in link]) == len(CLAIMS)


def test_a_class_in_the_reference_has_its_docstring_and_its_source(site: Path) -> None:
    text = (site / "api" / "atelier.blocks.vq.html").read_text(encoding="utf-8")
    assert 'id="atelier.blocks.vq.VectorQuantizer"' in text
    assert "Replaces each vector of a feature map by the nearest code" in text
    assert "../_modules/atelier/blocks/vq.html#VectorQuantizer" in text
    assert "Alias for field number" not in text


def test_tables_and_defaults_in_the_reference_are_readable(site: Path) -> None:
    page = (site / "api" / "atelier.weights.preset.html").read_text(encoding="utf-8")
    literal = " ".join(re.findall(r"<pre>(.*?)</pre>", page, flags=re.DOTALL))
    assert re.search(r"config\.json {2,}.*\n.*tokenizer\.json {2,}", re.sub(r"<[^>]+>", "", literal))
    assert "factory" not in page


def test_no_page_names_the_machine_that_built_it(site: Path) -> None:
    home = str(Path(__file__).resolve().parents[2])
    assert [page.name for page in pages(site) if home in page.read_text(encoding="utf-8")] == []


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, format="png")
    return file.getvalue()


def test_a_figure_is_wide_if_its_text_would_be_too_small_on_a_phone() -> None:
    assert lessons.is_wide(png(900, 300), 700)
    assert not lessons.is_wide(png(900, 900), 700)  # a grid of pictures
    assert not lessons.is_wide(png(900, 300), 500)


def example() -> list:
    """The cells of a lesson, one of each kind that the page treats differently."""
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "m"}}
    picture = new_output(
        "display_data",
        {"image/png": base64.b64encode(png(90, 40)).decode()},
        metadata={"image/png": {"alt": 'A "figure" of ours', "width": 90}},
    )
    controls = new_output("display_data", {**view, "text/plain": "controls", "text/html": "<img alt='still'>"})
    bar = new_output("display_data", {**view, "text/plain": "0%|"})
    folded = {"jupyter": {"source_hidden": True}}
    cells = [
        new_markdown_cell("[![Open in Colab](https://x/badge.svg)](https://x/github/owner/course/blob/main/9z.ipynb)"),
        new_markdown_cell("# 9z · A lesson\n\nIts first words."),
        new_code_cell(lessons.SETUP_BEGINS + "\nimport sys"),
        new_code_cell("import torch", metadata=folded),
        new_code_cell("axis.plot(1)", metadata=folded, outputs=[picture, bar]),
        new_code_cell("explore(draw)", outputs=[controls]),
        new_code_cell("glossary()", outputs=[new_output("display_data", {"text/html": lessons.GLOSSARY + "…"})]),
    ]
    for number, cell in enumerate(cells):
        cell.id = f"9z-{number:03d}"
    return cells


def test_cells_are_shown_folded_or_left_out(tmp_path: Path) -> None:
    page = lessons.lesson_page(new_notebook(cells=example()), "9z_lesson", tmp_path)
    title, imports, drawing, controls, terms = page.cells
    assert title.source.startswith("# 9z · A lesson\n\n<p")
    assert 'href="9z_lesson.ipynb"' in title.source
    assert '<a href="https://x/github/owner/course/blob/main/9z.ipynb">Open in Colab</a>' in title.source
    assert 'gh/owner/course/HEAD?urlpath=lab/tree/notebooks/9z_lesson.ipynb">Open in Binder</a>' in title.source
    assert title.source.endswith("\n\nIts first words.")
    assert [cell.metadata.get("tags") for cell in (imports, drawing, controls)] == [
        ["hide-input"],
        ["hide-input"],
        None,
    ]
    (figure,) = drawing.outputs
    assert 'alt="A &quot;figure&quot; of ours" width="90"' in figure.data["text/html"]
    assert [path.name for path in tmp_path.iterdir()] == ["9z-004-0.png"]
    view, words = controls.outputs
    assert set(view.data) == {"application/vnd.jupyter.widget-view+json", "text/plain"}
    assert [output.data["text/html"].count("glossary.html") for output in terms.outputs] == [1]
    assert "in JupyterLab and on Colab" in words.data["text/html"]


def test_the_set_up_page_says_how_to_clone_a_known_repository() -> None:
    readme = (stage.ROOT / "README.md").read_text(encoding="utf-8")
    assert "git clone" not in stage.set_up_page(readme, "")
    assert "git clone https://github.com/owner/name atelier\ncd atelier " in stage.set_up_page(readme, "owner/name")


def test_prompts_are_read_in_sections() -> None:
    assert list(gallery.sections("# One.\na\nb\n\n\n# Two\nc\n")) == [("One.", ["a", "b"]), ("Two", ["c"])]


def test_the_cell_of_a_claim_becomes_a_link() -> None:
    row = stage.linked_claims("| a claim | [2d](2d_vq_vae.ipynb) | 2d-067 | holds |", {"2d-067": "2d_vq_vae"})
    assert row == (
        '| a claim | [2d](2d_vq_vae.ipynb) | <a href="2d_vq_vae.html#claim-2d-067">2d-067</a> | '
        '<span class="verdict holds">holds</span> |'
    )


def test_the_front_page_has_the_measured_numbers(site: Path) -> None:
    evaluation = json.loads((stage.ROOT / "data" / "studio" / "evaluation.json").read_text(encoding="utf-8"))
    front = (site / "index.html").read_text(encoding="utf-8")
    assert f"<b>{evaluation['held_out']['all_best_of_9']:.0%}</b>" in front
    assert f"<b>{len(CLAIMS)}</b>" in front
    for lesson in LESSONS.values():
        assert html.escape(lesson.question) in front


def test_the_workflow_publishes_the_built_site() -> None:
    workflow = yaml.safe_load((stage.ROOT / ".github" / "workflows" / "site.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["publish"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["make site"]
    (uploaded,) = [step["with"]["path"] for step in steps if "upload-pages" in step.get("uses", "")]
    assert stage.ROOT / uploaded == make_site.BUILT / "html"
    makefile = (stage.ROOT / "Makefile").read_text(encoding="utf-8")
    assert "\nsite: develop" in makefile
    assert "docs/site/make_site.py" in makefile


def words_of(notebook: Path) -> Iterator[str]:
    """Some words from the end of each paragraph of a lesson, which should be on its page."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            for paragraph in re.split(r"\n\s*\n", "".join(cell["source"])):
                plain = re.findall(r"(?<![\w$\\{^`*|])[A-Za-z]{4,}(?:\s+[a-z]{2,}){2,}", paragraph)
                if plain and not paragraph.lstrip().startswith(("|", "<", "```", "$$")):
                    yield " ".join(plain[-1].split())


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=lambda lesson: lesson.key)
def test_no_paragraph_of_a_lesson_is_lost(lesson, site: Path) -> None:
    page = (site / "notebooks" / f"{lesson.name}.html").read_text(encoding="utf-8")
    shown = " ".join(re.sub(r"<[^>]+>", "", html.unescape(page)).split())
    wanted = list(words_of(stage.ROOT / "notebooks" / f"{lesson.name}.ipynb"))
    assert len(wanted) > 30
    assert [words for words in wanted if words not in shown] == []
