"""From a results table to the law, the front, the figures and advice: tables in, tables out, no torch."""
