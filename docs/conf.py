"""Sphinx settings of the site; `build.py` runs Sphinx with them on the staged sources."""

import os
import sys
from configparser import ConfigParser
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))
_settings = ConfigParser(delimiters=["="], interpolation=None)
_settings.read(ROOT / "settings.ini", encoding="utf-8")
BUILD = ROOT / "build" / "docs"

project = _settings["DEFAULT"]["title"]
author = _settings["DEFAULT"]["author"]
release = _settings["DEFAULT"]["version"]
project_copyright = _settings["DEFAULT"]["copyright"]

extensions = ["myst_nb", "autodoc2", "equations"]
templates_path = [str(HERE / "_templates")]
exclude_patterns = ["jupyter_execute"]
suppress_warnings = ["autodoc2.dup_item"]
show_warning_types = True

nb_execution_mode = "off"  # executed by build.py, with a cache of its own
nb_ipywidgets_js = {}
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

autodoc2_packages = [
    {
        "path": Path(os.path.relpath(ROOT / "covid_workbench", BUILD / "source")).as_posix(),
        "exclude_files": ["_modidx.py"],
    }
]
autodoc2_output_dir = "api"
autodoc2_index_template = None
autodoc2_render_plugin = "api.Renderer"
autodoc2_docstring_parser_regexes = [(r".*", "docstrings")]
autodoc2_hidden_objects = ["undoc", "dunder", "private", "inherited"]
autodoc2_sort_names = False
autodoc2_docstrings = "direct"
autodoc2_class_docstring = "both"
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = project
html_static_path = [str(HERE / "_static")]
html_extra_path = [str(BUILD / "extra")]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0B6BB5", "color-brand-content": "#0B6BB5"},
    "dark_css_variables": {"color-brand-primary": "#6FB7EE", "color-brand-content": "#6FB7EE"},
}
