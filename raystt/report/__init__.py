"""What a search has found: results on disk, tables, figures and live progress.

`results` and `progress` need nothing but the core, so a search may write with them; `figures`
draws and stands above the search.
"""
