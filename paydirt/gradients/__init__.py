"""Per-example gradients, optimizer directions, random projection, the feature store and influence.

In the order of the work: `batches` (shifted labels), `taps` and `per_example`
(gradients), `plain` (the reference), `moments`, `checkpoints` and `directions` (the optimizer's view), `hashing`
and `projection` (to k numbers), `features` (all of these joined), `store` (others' gradients on disk), `influence` (scores).
"""

from paydirt.gradients.checkpoints import checkpoint_weights, load_moments
from paydirt.gradients.features import Features
from paydirt.gradients.influence import check_stores, reduce_similarity, score_stores, similarities, similarity_of
from paydirt.gradients.moments import Moments
from paydirt.gradients.plain import ModelCheck, check_attention, check_model
from paydirt.gradients.projection import Projection
from paydirt.gradients.store import Store

__all__ = [
    "Features",
    "ModelCheck",
    "Moments",
    "Projection",
    "Store",
    "check_attention",
    "check_model",
    "check_stores",
    "checkpoint_weights",
    "load_moments",
    "reduce_similarity",
    "score_stores",
    "similarities",
    "similarity_of",
]
