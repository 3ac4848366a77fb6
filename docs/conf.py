"""How Sphinx makes the documentation site of these pages: `make docs`, which leaves it in docs/_build/html.

Pages are Markdown that reads well on a repository host too; links to files outside docs/ lead to the repository.
Nothing is fetched when the site is built or read: MathJax is a file of the site.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from sphinx.application import Sphinx

import ssimgen

DOCS = Path(__file__).parent
ROOT = DOCS.parent
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
MATHJAX = distribution("sphinx-mathjax-offline").locate_file("sphinx-mathjax-offline/static/mathjax/tex-svg-full.js")

project = "ssimgen"
author = "The ssimgen authors"
release = version = ssimgen.__version__.split("+")[0]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "code"  # docstrings have `names` as Markdown has

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # answers of troubleshooting and the like begin where they fit

nb_execution_mode = "cache"  # in docs/_build/.jupyter_cache: again where a notebook has changed
nb_execution_raise_on_error = True
nb_execution_timeout = 300

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_type_aliases = {"DataRange": "DataRange", "Form": "Form"}
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"ssimgen {release}"
html_static_path = ["_static", str(MATHJAX)]
html_css_files = ["site.css"]
html_theme_options = {"source_view_link": f"{URLS['Source']}/blob/main/docs/{{filename}}"}
html_copy_source = False
html_show_copyright = False  # the licence is in the repository
mathjax_path = MATHJAX.name
copybutton_exclude = ".linenos, .gp, .go"

for name in ssimgen.__all__:  # which are imported when they are asked for; autodoc looks at what is there
    setattr(ssimgen, name, getattr(ssimgen, name))


def with_links_to_the_repository(text: str, folder: Path) -> str:
    """The Markdown of a file in `folder`, whose links to files outside docs/ lead to the repository."""

    def link(match: re.Match[str]) -> str:
        path, _, anchor = match[1].partition("#")
        target = (folder / path).resolve()
        if target.is_relative_to(DOCS):
            inside = target.relative_to(DOCS)
            return f"]({inside if folder == ROOT else path}{'#' * bool(anchor)}{anchor})"
        if not target.exists():
            raise FileNotFoundError(f"{folder} has a link to {path}")
        kind = "tree" if target.is_dir() else "blob"
        return f"]({URLS['Source']}/{kind}/main/{target.relative_to(ROOT)}{'#' * bool(anchor)}{anchor})"

    return re.sub(r"\]\((?!\w+:|#|<)([^)\s]+)\)", link, text)


def as_restructured_text(lines: list[str]) -> list[str]:
    """A docstring whose indented formulas are literal, and whose |x| and *axes are not taken for markup."""
    result: list[str] = []
    margin, literal, prompt = 0, False, False
    for before, line in zip(["", *lines], lines, strict=False):
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        prompt = bool(text) and (prompt or text.startswith(">>>"))
        if text and not literal and not before.strip() and indent > margin and not prompt:
            result += [f"{' ' * margin}.. code-block:: text", ""]
            literal = True
        elif text and indent <= margin:
            literal = False
        if text and not literal:
            margin = indent
        result.append(line if literal or prompt else _without_markup(line))
    return result


def _without_markup(line: str) -> str:
    parts = re.split(r"(`+[^`]+`+)", line)  # names in backticks stay as they are
    parts[::2] = [re.sub(r"(\||(?<![\w*])\*(?=[^\s*]))", r"\\\1", part) for part in parts[::2]]
    parts[2::2] = [re.sub(r"^(?=\w)", r"\\ ", part) for part in parts[2::2]]  # the plural of a name
    return "".join(parts)


def _docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    lines[:] = as_restructured_text(lines)


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    path = Path(app.env.doc2path(name))
    if path.suffix == ".md":
        source[0] = with_links_to_the_repository(source[0], path.parent)


def _include(app: Sphinx, relative: Path, parent: str, source: list[str]) -> None:
    if relative.suffix == ".md":
        source[0] = with_links_to_the_repository(source[0], (DOCS / relative).resolve().parent)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _docstring, priority=100)  # before napoleon reads sections
    app.connect("source-read", _read)
    app.connect("include-read", _include)
