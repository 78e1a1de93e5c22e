"""The report's page: numbers and pairs of a run in, one self-contained HTML file out."""
