"""The command line: its help, its words, its options."""
