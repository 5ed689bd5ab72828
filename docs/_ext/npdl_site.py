"""What the site needs beside Sphinx: pages that run, typeset equations, lists of the public names.

* The Python blocks of a page run when it is read. The pictures that they leave open in Matplotlib
  are put behind them, and so is a figure that is the value of the last line, as in a notebook. A
  block that fails, or prints something else than the page says, is an error.
* Equations in docstrings and pages become MathML.
* A ``names`` directive holds the names of a module: first a table of them, then their docstrings.
"""

import importlib
import inspect
from pathlib import Path
from typing import ClassVar

import blocks
from docutils import nodes
from equations import mathml, rows
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

FIGURES = "_figures"
# Pages that import one of these are shown as they are, where it is not installed.
OPTIONAL = {"keras", "mpi4py", "torch"}
# Readable on a light and on a dark page.
INK = "#7c7f86"
STYLE = {
    "figure.figsize": (7, 3),
    "figure.constrained_layout.use": True,
    "savefig.transparent": True,
    "savefig.bbox": "tight",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.titlecolor", "axes.edgecolor", "xtick.color"), INK
    ),
    "ytick.color": INK,
}


def run_page(app, name, source):
    """Run the code of a page, and put its pictures behind the blocks that draw them."""
    page = source[0]
    if not blocks.blocks(page) or blocks.missing(page) & OPTIONAL:
        return
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.use("Agg")
    mpl.rcParams.update(STYLE)
    folder = Path(app.srcdir, FIGURES)
    folder.mkdir(exist_ok=True)
    changes = []

    count = 0

    def after(block, printed, value):
        nonlocal count
        said = page[block.start : block.end]
        if "..." in said:  # where the page leaves out what differs, the site has all of it
            said = f"\n\n```text\n{printed.rstrip()}\n```"
        figures = [plt.figure(number) for number in plt.get_fignums()]
        is_new = isinstance(value, mpl.figure.Figure) and value not in figures
        for figure in [*figures, value] if is_new else figures:
            count += 1
            file = f"{name.replace('/', '-')}-{count}.svg"
            # The colours of npdl.plot are made for a white ground.
            ground = {"transparent": figure in figures, "facecolor": "white"}
            figure.savefig(folder / file, metadata={"Date": None}, **ground)
            plt.close(figure)
            titles = [figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)]
            labels = [axes.get_ylabel() or axes.get_xlabel() for axes in figure.axes]
            words = [text for text in titles if text] or [text for text in labels if text]
            alt = "; ".join(words) or block.code.splitlines()[-1]
            said += f"\n\n```{{image}} /{FIGURES}/{file}\n:alt: {alt}\n```"
        changes.append((block, said))

    try:
        blocks.run(Path(app.env.doc2path(name)), after)
    except Exception as error:
        raise ExtensionError(
            f"the code of {name} fails: {type(error).__name__}: {error}", error
        ) from error
    for block, said in reversed(changes):
        page = page[: block.start] + said + page[block.end :]
    source[0] = page


class Equations(SphinxPostTransform):
    """Make MathML of what reads as an equation."""

    default_priority = 500
    formats = ("html",)

    def run(self, **kwargs):
        """Go through the code of a page: in lines, and blocks of which all lines are equations."""
        for node in list(self.document.findall(nodes.literal)):
            if html := mathml(node.astext()):
                node.replace_self(nodes.raw("", html, format="html"))
        for node in list(self.document.findall(nodes.literal_block)):
            if lines := rows(node.astext()):
                body = "".join(f"<p>{'<span></span>'.join(row)}</p>" for row in lines)
                html = f'<div class="equations">{body}</div>'
                node.replace_self(nodes.raw("", html, format="html"))


class Names(SphinxDirective):
    """``{names} module`` with a name a line: a table of summaries, then all that is documented."""

    required_arguments = 1
    has_content = True
    # With `members`, the methods too; the text behind it names those that are no one's business.
    option_spec: ClassVar = {"members": lambda text: text or ""}

    def run(self):
        """Write both in reStructuredText, and parse it."""
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
    # A metric is no function, but wraps one.
    return "function" if hasattr(inspect.unwrap(value), "__code__") else "data"


def find_by_last_name(app, env, node, contnode):
    """Let a docstring name a module, or what another module has by its last name alone."""
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
    """Write the font of equations, with the letters that they need, among the files of the site."""
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
    """Keep napoleon from reading a property's summary with a colon as a type and its meaning."""
    if what == "property" and lines:
        lines[0] = lines[0].replace(": ", " – ")


def forget_modules_without_source(app, env):
    """Keep sphinx.ext.viewcode from listing pages that it does not write, such as of `builtins`."""
    modules = env._viewcode_modules
    for name in [name for name, entry in modules.items() if not entry]:
        del modules[name]


def setup(app):
    """Tell Sphinx of all this."""
    app.connect("source-read", run_page)
    app.connect("missing-reference", find_by_last_name)
    app.connect("builder-inited", make_font)
    app.connect("autodoc-process-docstring", keep_summary, priority=100)
    app.connect("env-check-consistency", forget_modules_without_source)
    app.add_directive("names", Names)
    app.add_post_transform(Equations)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
