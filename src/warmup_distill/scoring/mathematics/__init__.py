"""Whether two answers of mathematics are the same: read as structure, compared by value."""
