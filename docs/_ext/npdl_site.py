"""Sphinx extension of the site: pages that run, typeset equations, lists of public names.

* Sphinx runs the Python blocks of a page when it reads the page. Open Matplotlib figures are
  inserted after their block. So is a figure that is the value of the last line, as in a notebook. A
  block with an error, or with another output than on the page, is an error.
* Equations in docstrings and pages become MathML.
* The ``names`` directive lists names of a module: first as a table, then with their docstrings.
"""

import importlib
import inspect
from pathlib import Path
from typing import ClassVar

import blocks
import figures
from docutils import nodes
from equations import mathml, rows
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

FIGURES = "_figures"
# Pages with one of these imports are not run if the library is not installed.
OPTIONAL = {"keras", "mpi4py", "torch"}


def run_page(app, name, source):
    """Run the code of a page, and insert its figures after their blocks."""
    page = source[0]
    if not blocks.blocks(page) or blocks.missing(page) & OPTIONAL:
        return
    figures.prepare()
    folder = Path(app.srcdir, FIGURES)
    folder.mkdir(exist_ok=True)
    changes, count = [], 0

    def after(block, printed, value):
        nonlocal count
        shown = page[block.start : block.end]
        if "..." in shown:  # the site shows the full output
            shown = f"\n\n```text\n{printed.rstrip()}\n```"
        for document, description in figures.drawn(value, block.code):
            count += 1
            file = f"{name.replace('/', '-')}-{count}.svg"
            Path(folder, file).write_text(document, encoding="utf-8")
            shown += f"\n\n```{{image}} /{FIGURES}/{file}\n:alt: {description}\n```"
        changes.append((block, shown))

    try:
        blocks.run(Path(app.env.doc2path(name)), after)
    except Exception as error:
        raise ExtensionError(
            f"the code of {name} fails: {type(error).__name__}: {error}", error
        ) from error
    for block, shown in reversed(changes):
        page = page[: block.start] + shown + page[block.end :]
    source[0] = page


class Equations(SphinxPostTransform):
    """Replace equations by MathML."""

    default_priority = 500
    formats = ("html",)

    def run(self, **kwargs):
        """Replace inline code, and blocks that are not Python in which all lines are equations."""
        for node in list(self.document.findall(nodes.literal)):
            if html := mathml(node.astext()):
                node.replace_self(nodes.raw("", html, format="html"))
        for node in list(self.document.findall(nodes.literal_block)):
            if node.get("language") != "python" and (lines := rows(node.astext())):
                body = "".join(f"<p>{'<span></span>'.join(row)}</p>" for row in lines)
                html = f'<div class="equations">{body}</div>'
                node.replace_self(nodes.raw("", html, format="html"))


class Names(SphinxDirective):
    """``{names} module`` with one name per line: a table of summaries, then the docstrings."""

    required_arguments = 1
    has_content = True
    # `members` adds the methods; its value lists the methods to exclude.
    option_spec: ClassVar = {"members": lambda text: text or ""}

    def run(self):
        """Write the table and the docstrings in reStructuredText, and parse them."""
        module_name, names = self.arguments[0], [line for line in self.content if line.strip()]
        module = importlib.import_module(module_name)
        lines = [
            f".. currentmodule:: {module_name}",
            "",
            ".. autosummary::",
            "   :nosignatures:",
            "",
        ]
        lines += [f"   {name}" for name in names]
        for name in names:
            kind = _kind(getattr(module, name))
            lines += ["", f".. auto{kind}:: {name}"]
            if kind == "class" and "members" in self.options:
                lines += ["   :members:", f"   :exclude-members: {self.options['members']}"]
        return self.parse_text_to_nodes("\n".join(["```{eval-rst}", *lines, "```"]))


def _kind(value):
    if isinstance(value, type):
        return "exception" if issubclass(value, Exception) else "class"
    # A metric is not a function, but wraps one.
    return "function" if hasattr(inspect.unwrap(value), "__code__") else "data"


def find_by_last_name(app, env, node, contnode):
    """Resolve references to a module, or to a name of another module by its last part."""
    if node.get("refdomain") != "py":
        return None
    ends = f".{node['reftarget'].rpartition('.')[2]}"
    domain = env.domains["py"]
    if node["reftype"] == "mod":
        parts = [
            entry
            for name, entry in domain.objects.items()
            if name.startswith(f"{node['reftarget']}.")
        ]
        if parts:
            return make_refnode(app.builder, node["refdoc"], parts[0].docname, "", contnode)
    for prefix in ("npdl.functional", "npdl.", "npdl.compat."):
        found = sorted(
            name for name in domain.objects if name.startswith(prefix) and name.endswith(ends)
        )
        if found:
            entry = domain.objects[found[0]]
            return make_refnode(
                app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, found[0]
            )
    return None


FONT_RANGES = [(0x20, 0x7F), (0xA0, 0x100), (0x370, 0x400), (0x2000, 0x2070), (0x2100, 0x2150)]
FONT_RANGES += [(0x2200, 0x2300), (0x27E0, 0x27F0), (0x1D434, 0x1D468), (0x1D6A4, 0x1D71C)]


def make_font(app):
    """Write the font of equations, reduced to the needed letters, to the static files."""
    import ziamath
    from fontTools import subset

    target = Path(app.outdir, "_static", "equations.ttf")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    options = subset.Options()
    options.layout_features = ["*"]
    options.notdef_outline = True
    font = subset.load_font(
        Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf", options
    )
    cut = subset.Subsetter(options)
    cut.populate(unicodes=[code for first, last in FONT_RANGES for code in range(first, last)])
    cut.subset(font)
    subset.save_font(font, str(target), options)


def keep_summary(app, what, name, value, options, lines):
    """Keep napoleon from reading the colon in a property's summary as a type separator."""
    if what == "property" and lines:
        lines[0] = lines[0].replace(": ", " – ")


def forget_modules_without_source(app, env):
    """Keep sphinx.ext.viewcode from listing pages that it does not write, such as `builtins`."""
    modules = env._viewcode_modules
    for name in [name for name, entry in modules.items() if not entry]:
        del modules[name]


def setup(app):
    """Register the extension."""
    app.connect("source-read", run_page)
    app.connect("missing-reference", find_by_last_name)
    app.connect("builder-inited", make_font)
    app.connect("autodoc-process-docstring", keep_summary, priority=100)
    app.connect("env-check-consistency", forget_modules_without_source)
    app.add_directive("names", Names)
    app.add_post_transform(Equations)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
