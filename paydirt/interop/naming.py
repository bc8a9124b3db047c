"""Names as the seeds give them (METHODS section 3): for people and for published scripts; nothing of ours reads them.

Data: `{task}-train-p{fraction}-{method}[-seed{n}]`, the seed only where the selection depends on one. Models:
`{model}-{params}-{task}-{method}-p{fraction}-lora-seed{n}-linear-1epoch`.
"""

from __future__ import annotations

SEEDS_NAMES = {"gradient": "less", "embed": "embedding"}
# The seeds' text calls the highest perplexities "top"; the script that writes their `ppl-top` takes the lowest first.
POLICY_NAMES = {("ppl", "top"): "ppl-top-highest", ("ppl", "mid"): "ppl-mid", ("ppl", "low"): "ppl-top-lowest"}
SEEDED = ("random", "ppl", "gradient")


def fraction_name(fraction: float) -> str:
    """0.025 -> p0.025, 0.1 -> p0.10, 1 -> p1.0: two decimals unless more are needed."""
    if fraction == 1:
        return "p1.0"
    text = f"{fraction:.6f}".rstrip("0")
    return "p" + text + "0" * max(0, 2 - len(text.split(".")[1]))


def method_name(scorer: str, policy: str = "top") -> str:
    """What the seeds call a scorer with its policy; another policy than top is appended where they have no name."""
    if (scorer, policy) in POLICY_NAMES:
        return POLICY_NAMES[scorer, policy]
    name = SEEDS_NAMES.get(scorer, scorer)
    return name if policy in ("top", scorer) else f"{name}-{policy.replace('_', '-')}"


def data_name(task: str, fraction: float, method: str, seed: int | None = None) -> str:
    return f"{task}-train-{fraction_name(fraction)}-{method}" + ("" if seed is None else f"-seed{seed}")


def model_name(
    model: str, params: str, task: str, method: str, fraction: float, seed: int, tuning: str = "lora", epochs: int = 1
) -> str:
    return f"{model}-{params}-{task}-{method}-{fraction_name(fraction)}-{tuning}-seed{seed}-linear-{epochs}epoch"
