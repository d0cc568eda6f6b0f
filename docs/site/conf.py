"""How Sphinx builds the site; ``build.py`` calls it."""

from greater_ray import __version__

project = "greater-ray"
author = "the authors of greater-ray"
version = release = __version__
language = "en"
extensions = ["myst_parser", "sphinx_copybutton"]
myst_enable_extensions = ["attrs_block"]
# Headings have the anchors that code hosts give them.
myst_heading_anchors = 4
# Options are written with two hyphens.
smartquotes = False
copybutton_prompt_text = "$ "

pygments_dark_style = "github-dark"

html_theme = "furo"
html_title = f"greater-ray {__version__}"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_use_index = False
html_show_sphinx = False
html_show_copyright = False
# A summary would be fetched, which a page opened from disk cannot do.
html_show_search_summary = False
_FONTS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif'
html_theme_options = {
    "top_of_page_buttons": [],
    # The colours of the report.
    "light_css_variables": {
        "font-stack": _FONTS,
        "color-brand-primary": "#0b5cad",
        "color-brand-content": "#0b5cad",
        "color-background-secondary": "#f6f7f9",
        "color-background-border": "#d9dfe6",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7cb8f5",
        "color-brand-content": "#7cb8f5",
        "color-background-primary": "#10151b",
        "color-background-secondary": "#18202a",
        "color-background-border": "#303c4a",
    },
}
