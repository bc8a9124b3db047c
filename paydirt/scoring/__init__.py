"""The contract of a scorer, the job that it is given, and the passes that several methods share."""
