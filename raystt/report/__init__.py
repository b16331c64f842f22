"""What a search has found, for people: tables, the figure, dashboards."""
