"""A study: methods x fractions x seeds on one pool, everything shareable shared, into one results table."""
