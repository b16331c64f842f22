"""What a search has found, for people: the page, tables, dashboards."""
