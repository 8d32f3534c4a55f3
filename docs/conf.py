"""Sphinx: `make docs`."""

from sb3_entropic import __version__

project = "sb3_entropic"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"sb3_entropic {release}"
html_static_path = []
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
# The docstrings refer to classes of SB3's by name; without the network their pages cannot be looked up.
nitpicky = False
