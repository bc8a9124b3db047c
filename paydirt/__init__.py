"""Paydirt: choose fine-tuning data for a language model under one budget for selecting and training together.

    import paydirt as pay

    pool = pay.Pool.from_records(dataset)
    target = pay.Target.from_records(examples, name="sql")
    scores = pay.score(pool, target, pay.Gradient(k=4096), model="path")
    picked = pay.select(scores, fraction=0.05)
    result = pay.evaluate(pay.train(picked, model="path"), target)

A name is loaded when it is first used, so that `import paydirt` costs nothing. Every scoring method and policy is here under
the name of its class, plugins' too.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from paydirt.analysis.advisor import Advice as Advice
    from paydirt.api.budget import Quote as Quote
    from paydirt.api.budget import advise as advise
    from paydirt.api.budget import cost as cost
    from paydirt.api.model import Evaluation as Evaluation
    from paydirt.api.model import Model as Model
    from paydirt.api.model import evaluate as evaluate
    from paydirt.api.model import train as train
    from paydirt.api.plan import plan as plan
    from paydirt.api.pool import Pool as Pool
    from paydirt.api.scores import Nearest as Nearest
    from paydirt.api.scores import Scores as Scores
    from paydirt.api.scores import score as score
    from paydirt.api.selection import Selection as Selection
    from paydirt.api.selection import select as select
    from paydirt.api.spend import Spending as Spending
    from paydirt.api.spend import spend as spend
    from paydirt.api.study import Results as Results
    from paydirt.api.study import Study as Study
    from paydirt.api.study import study as study
    from paydirt.api.target import Target as Target
    from paydirt.api.target import task as task
    from paydirt.data.encoding import EncodingConfig as EncodingConfig
    from paydirt.execution.local import Local as Local
    from paydirt.execution.ray import Ray as Ray
    from paydirt.models.load import ModelConfig as ModelConfig
    from paydirt.scorers.bm25 import BM25 as BM25
    from paydirt.scorers.cascade import Cascade as Cascade
    from paydirt.scorers.consensus import Consensus as Consensus
    from paydirt.scorers.drop import Drop as Drop
    from paydirt.scorers.dsir import DSIR as DSIR
    from paydirt.scorers.embed import Embed as Embed
    from paydirt.scorers.gist import Gist as Gist
    from paydirt.scorers.gradient import Gradient as Gradient
    from paydirt.scorers.ifd import IFD as IFD
    from paydirt.scorers.learned import Learned as Learned
    from paydirt.scorers.length import Length as Length
    from paydirt.scorers.novelty import Novelty as Novelty
    from paydirt.scorers.oracle import Oracle as Oracle
    from paydirt.scorers.perplexity import Perplexity as Perplexity
    from paydirt.scorers.random import Random as Random
    from paydirt.scorers.rds import RDS as RDS
    from paydirt.scorers.tov import ToV as ToV
    from paydirt.scoring.base import Scorer as Scorer
    from paydirt.selection.policies.base import Policy as Policy
    from paydirt.selection.policies.diverse import MMR as MMR
    from paydirt.selection.policies.diverse import Facility as Facility
    from paydirt.selection.policies.diverse import KCentre as KCentre
    from paydirt.selection.policies.doubly_greedy import DoublyGreedy as DoublyGreedy
    from paydirt.selection.policies.nearest import KNN as KNN
    from paydirt.selection.policies.nearest import TSDS as TSDS
    from paydirt.selection.policies.quota import Quota as Quota
    from paydirt.selection.policies.random import RandomOrder as RandomOrder
    from paydirt.selection.policies.round_robin import RoundRobin as RoundRobin
    from paydirt.selection.policies.top import Low as Low
    from paydirt.selection.policies.top import Mid as Mid
    from paydirt.selection.policies.top import Top as Top
    from paydirt.selection.policies.transport import Transport as Transport
    from paydirt.training.config import TrainConfig as TrainConfig

# What each module gives; methods and policies come from their registries. (Strings, since the API lies above all that
# imports this package.)
GIVES = {
    "analysis.advisor": ("Advice",),
    "api.budget": ("Quote", "advise", "cost"),
    "api.model": ("Evaluation", "Model", "evaluate", "train"),
    "api.plan": ("plan",),
    "api.pool": ("Pool",),
    "api.scores": ("Nearest", "Scores", "score"),
    "api.selection": ("Selection", "select"),
    "api.spend": ("Spending", "spend"),
    "api.study": ("Results", "Study", "study"),
    "api.target": ("Target", "task"),
    "data.encoding": ("EncodingConfig",),
    "execution.local": ("Local",),
    "execution.ray": ("Ray",),
    "models.load": ("ModelConfig",),
    "scoring.base": ("Scorer",),
    "selection.policies.base": ("Policy",),
    "training.config": ("TrainConfig",),
}
HOME = {name: f"paydirt.{module}" for module, names in GIVES.items() for name in names}
FAMILIES = (("paydirt.scoring.base", "SCORERS"), ("paydirt.selection.policies.base", "POLICIES"))
VERBS = ("cost", "study")  # rooms that share their names with a verb


def _methods() -> dict[str, Any]:
    """Scorers and policies by the name of their class; ours before plugins'."""
    families = [getattr(importlib.import_module(module), name) for module, name in FAMILIES]
    known = sorted(
        ((f.origin(name) != "", f.get(name)) for f in families for name in f.names()), key=lambda k: not k[0]
    )
    return {cls.__name__: cls for _, cls in known}


def __getattr__(name: str) -> Any:
    if name in VERBS:
        return importlib.import_module(f"paydirt.{name}")
    if name in HOME:
        return getattr(importlib.import_module(HOME[name]), name)
    if name[:1].isupper() and (found := _methods().get(name)) is not None:
        return found
    raise AttributeError(f"module 'paydirt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*HOME, *_methods(), *(name for name in globals() if name.startswith("__"))})


class _Verb(ModuleType):
    """A room that can be called: importing a part of `paydirt.cost` puts the room in the place of the verb `cost`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    @property
    def _function(self) -> Any:
        verb = self.__name__.rpartition(".")[2]
        return getattr(importlib.import_module(HOME[verb]), verb)

    @property
    def __signature__(self) -> Any:
        import inspect

        return inspect.signature(self._function)


class _Package(ModuleType):
    """This package: the rooms that are set as its attributes by being imported become what can be called."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in VERBS and isinstance(value, ModuleType):
            value.__class__ = _Verb
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
