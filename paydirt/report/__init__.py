"""Report: figures for a paper and one self-contained HTML page."""
