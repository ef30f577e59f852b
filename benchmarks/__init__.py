"""What proves a speed or quality figure: each prints a table and, as its last line, one JSON document."""
