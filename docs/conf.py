"""Configuration of the site: `make docs` builds it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from npdl import __version__

project = "npdl"
author = "The npdl developers"
copyright = author
release = version = __version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "notebooks",
    "npdl_site",
    "playground",
]
exclude_patterns = ["_ext"]
nitpicky = True
# The build uses no network, so references to Python and NumPy have no target.
nitpick_ignore_regex = [("py:.*", r"(numpy|np|collections|typing|os|attrs)\..*")]
nitpick_ignore_regex += [("py:exc", r"[A-Z]\w*(Error|Warning)")]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3
default_role = "code"
suppress_warnings = ["config.cache"]

autosummary_generate = False
autodoc_typehints = "none"
# Not autodoc_preserve_defaults: it replaces defaults by strings, but pages compute with defaults.
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]
add_module_names = False
toc_object_entries_show_parents = "hide"

# The delivery network of Pyodide. Its NumPy is 2.4.
playground_pyodide = "https://cdn.jsdelivr.net/pyodide/v314.0.3/full/"

html_theme = "furo"
html_title = "npdl"
html_static_path = ["_static"]
html_css_files = ["npdl.css"]
html_favicon = "_static/favicon.svg"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0a5c8a",
        "color-brand-content": "#0a5c8a",
        "font-stack": "Inter, -apple-system, BlinkMacSystemFont, Segoe UI, Helvetica, Arial, "
        "sans-serif",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7cc4ee",
        "color-brand-content": "#7cc4ee",
    },
}
pygments_style = "a11y-light"  # without bold numbers and brackets
pygments_dark_style = "monokai"
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
