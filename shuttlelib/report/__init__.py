"""The report: what runs and models say of themselves, as a static site and as Markdown.

`collect` reads, `measure` evaluates, `pages` and `version_page` lay out, `html` and `markdown` write.
"""
