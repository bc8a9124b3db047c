"""The prior that ships with the advisor: levels fitted to both published studies, and what its words are worth.

    python -m paydirt.analysis.prior            # fit again and compare with prior.json
    python -m paydirt.analysis.prior --write    # fit again and write prior.json (minutes on one core, seeded)

`prior.json` holds the levels' standard deviations, each study's noise, and the calibrations measured by leaving one
model and one task out (`paydirt.analysis.backtest`). The scores themselves are the published tables. Loading is reading
one small file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from paydirt.analysis.calibration import PLAIN, Calibration
from paydirt.analysis.cases import prior_points
from paydirt.analysis.names import fold
from paydirt.analysis.points import SAME_MODEL, Points
from paydirt.analysis.posterior import Levels, Model, learn

FILE = "prior.json"


@cache
def _stored() -> dict[str, Any]:
    return json.loads(resources.files("paydirt.analysis").joinpath(FILE).read_text(encoding="utf-8"))


@cache
def levels() -> Levels:
    """The levels as shipped."""
    stored = _stored()["levels"]
    return Levels(stored["sd"], stored["study_noise"])


@cache
def calibration(evidence: str) -> Calibration:
    """What the advisor's words are worth with this evidence of the panel itself: prior, zero-shot or pilot."""
    stored = _stored()["calibration"].get(evidence)
    if stored is None:
        return PLAIN
    widths = {float(k): float(v) for k, v in stored["widths"].items()}
    return Calibration(widths, tuple(stored["said"]), tuple(stored["good"]), stored["sure_from"])


def known_without(task: str, model: str, train_params: float = float("nan")) -> Points:
    """Both studies' points less those of one panel, however its task and model are spelt.

    A study that labels a model by its size alone is matched by parameters too, within 8 %: "MMLU, Llama-2-7b-hf" is its
    "MMLU 7B".
    """
    known = prior_points()
    same_task = known.task == fold(task)
    name = fold(model)
    same_model = np.array([bool(name) and (m == name or fold(str(m)) in name or name in str(m)) for m in known.model])
    by_size = np.isin(known.study.astype(str), list(SAME_MODEL))
    if train_params > 0:
        same_model |= by_size & (np.abs(10**known.size / train_params - 1) < 0.08)
    labels = np.array([str(p).split("|")[1] for p in known.panel], dtype=object)
    same_model |= (labels == name) & bool(name)
    return known.where(np.asarray(~(same_task & same_model), dtype=bool))


@lru_cache(maxsize=8)
def prior_model(task: str, model: str, train_params: float) -> Model:
    """The model of all published panels but the one asked about."""
    return learn(known_without(task, model, train_params), levels())


def fitted_levels(cells: int = 2000, seed: int = 0) -> Levels:
    """The levels from the published tables, anew, as `prior.json` holds them."""
    found = learn(prior_points(), cells=cells, seed=seed).levels
    return Levels(*({k: round(v, 4) for k, v in part.items()} for part in (found.sd, found.study_noise)))


def fit(cells: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Everything that `prior.json` holds, from the published tables alone; levels from panels holding `cells` cells."""
    from paydirt.analysis.backtest import EVIDENCE, backtest
    from paydirt.analysis.calibration import calibrate

    fitted = fitted_levels(cells, seed)
    tests = [backtest(h, s, cells=cells, seed=seed) for h in ("model", "task") for s in ("ccds", "targeted")]
    found = {}
    for kind in EVIDENCE:
        c = calibrate([o for b in tests for o in b.outcomes if o.evidence == kind])
        found[kind] = {"widths": {f"{k:g}": round(v, 4) for k, v in c.widths.items()}, "said": list(c.said),
                       "good": list(c.good), "sure_from": c.sure_from}  # fmt: skip
    return {
        "source": "fitted by python -m paydirt.analysis.prior --write to published.csv and targeted.csv",
        "levels": {"sd": dict(fitted.sd), "study_noise": dict(fitted.study_noise)},
        "calibration": found,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit and compare, or fit and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write prior.json beside this module")
    write = parser.parse_args(arguments).write
    found = fit()
    if write:
        path = Path(__file__).with_name(FILE)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {path}")
        return
    for name, value in found["levels"]["sd"].items():
        print(f"{name:<16} shipped {levels()[name]:.4f} fitted {value:.4f}")
    print("calibration equal:", found["calibration"] == _stored()["calibration"])


if __name__ == "__main__":
    main()
