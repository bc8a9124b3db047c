"""What a verb or a recipe would take before it runs: FLOPs, time, memory, disk, artifacts."""
