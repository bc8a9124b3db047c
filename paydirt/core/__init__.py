"""What every room stands on: artifacts (whole or absent), config, types, registries, keys of code, progress, errors."""
