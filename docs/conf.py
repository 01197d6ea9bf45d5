"""How Sphinx makes HTML of these pages; `make docs` runs it."""

project = "Fortress"
copyright = "the Fortress maintainers"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_show_sourcelink = False
html_copy_source = False
# headings down to the third level can be linked to
myst_heading_anchors = 3
