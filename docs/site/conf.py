"""The site's configuration for Sphinx. stage.py copies it into the folder of the pages; `make site` builds them."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

project = "Atelier"
author = "the authors of Atelier"
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]

# Pages are Markdown and notebooks; the notebooks come with their outputs and are not run.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_disable_syntax = ["myst_block_break", "myst_line_comment", "myst_target"]  # lessons are plain Markdown
myst_heading_anchors = 4
myst_links_external_new_tab = True
exclude_patterns = ["_extra", "_static"]

# Pages fetch nothing from other servers: make_site.py copies the packages of npm into the site.
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = mathjax4_config = {
    "loader": {"paths": {"mathjax-newcm": "[mathjax]/newcm"}},
    "output": {"linebreaks": {"inline": True}, "displayOverflow": "scroll"},
}
nb_ipywidgets_js = {"widgets/embed.js": {}}

# The reference is made from the docstrings, in the order of the source. What is in `backticks` is code.
default_role = "py:obj"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "Atelier"
html_short_title = "Atelier"
html_static_path = ["_static"]
html_extra_path = ["_extra"]
html_css_files = ["site.css"]
html_js_files = ["controls.js", "search.js", "claims.js"]
html_favicon = html_logo = "_static/logo.png"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_last_updated_fmt = None
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
html_theme_options = {
    "sidebar_hide_name": False,
    "light_css_variables": {  # the colours are in palette.css, for light and dark pages
        "color-brand-primary": "var(--blue)",
        "color-brand-content": "var(--blue)",
        "font-stack": "'Atkinson Hyperlegible Next', system-ui, sans-serif",
        "font-stack--monospace": "'Atkinson Hyperlegible Mono', ui-monospace, monospace",
    },
    "dark_css_variables": {"color-brand-primary": "var(--blue)", "color-brand-content": "var(--blue)"},
}


def drop_default_docstrings(*event: Any) -> None:
    """Drop the default docstrings of the fields of a NamedTuple."""
    lines = event[-1]  # the last argument; those before it say which docstring this is
    if lines and lines[0].startswith("Alias for field number"):
        lines[:] = [""]


def keep_tables(*event: Any) -> None:
    """Keep the lines of indented paragraphs in docstrings of modules: they are tables and examples."""
    what, lines = event[1], event[-1]
    if what != "module":
        return
    kept: list[str] = []
    for paragraph in "\n".join(lines).split("\n\n"):
        if paragraph.startswith("    ") and not kept[-1].startswith("    "):
            kept.append(f".. code-block:: {'python' if 'import ' in paragraph else 'text'}")
        kept.append(paragraph)
    lines[:] = "\n\n".join(kept).split("\n")


def write_defaults(*event: Any) -> tuple[str | None, str | None]:
    """Write "..." for a default that a dataclass makes anew each time: "<factory>" is not Python. Paths are paths."""
    signature, returned = event[-2:]
    return signature and signature.replace("<factory>", "...").replace("PosixPath(", "Path("), returned


def give_headings_a_level(*event: Any) -> None:
    """Add the level that ARIA asks of a heading to the captions of the navigation, which Sphinx writes without it."""
    context = event[3]
    tree = context.get("furo_navigation_tree")
    if tree:
        context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app: Sphinx) -> None:
    """Connect this module's functions to Sphinx, which calls this."""
    app.connect("html-page-context", give_headings_a_level, priority=900)  # after the theme, which makes the navigation
    app.connect("autodoc-process-docstring", drop_default_docstrings)
    app.connect("autodoc-process-docstring", keep_tables, priority=400)  # before the sections of docstrings
    app.connect("autodoc-process-signature", write_defaults)
