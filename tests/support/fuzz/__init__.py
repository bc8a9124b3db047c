"""A seeded fuzzer of the command line, and a killer of it: the law is in `judge`, what is thrown at it in `cases`."""
