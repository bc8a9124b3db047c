from pathlib import Path


def write_report(study: Path) -> Path:
    return study
