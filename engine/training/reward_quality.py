"""How good a reward model is on prompts it has not seen: every figure with what it was counted on.

Accuracy is by prompt, since pairs of one prompt are not independent: of each prompt the share of its pairs' weight that
is ordered rightly, averaged over prompts. Length is the easiest thing to learn instead of what was meant, so that the
accuracy on pairs of like length and the correlation of reward and length stand beside it.
"""

from collections.abc import Sequence
from typing import Any

import numpy
from scipy.stats import pearsonr, spearmanr

from engine.statistics import bootstrap_mean, clustered_rate, wilson
from engine.training.preferences import Ranked

ALIKE = 0.1  # lengths that differ by no more than this share of the longer one are matched
BINS = 20


def accuracy_by_prompt(prompts: Sequence[Ranked], rewards: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Mean over prompts of the share of pair weight ordered rightly, with its 95 % bootstrap interval over prompts; Wilson's
    where all prompts are wholly right or wholly wrong, or say the same, since resampling equal values would claim certainty. Equal rewards
    order nothing. Empty for no prompts."""
    shares = []
    for prompt, told in zip(prompts, rewards, strict=True):
        right = sum(pair.weight for pair in prompt.pairs if told[pair.winner] > told[pair.loser])
        shares.append(right / sum(pair.weight for pair in prompt.pairs))
    if not shares:
        return {}
    mean, low, high = bootstrap_mean(shares)
    if set(shares) <= {0.0, 1.0} or len(set(shares)) == 1:
        low, high = wilson(sum(shares), len(shares))
        low, high = min(low, mean), max(high, mean)  # which rounding may miss
    return {"rate": mean, "low": low, "high": high, "prompts": len(shares), "pairs": sum(len(one.pairs) for one in prompts)}


def quality(prompts: Sequence[Ranked], rewards: Sequence[Sequence[float]]) -> dict[str, Any]:
    """All of it, for the artifact's row. `rewards` are those of each prompt's answers. Empty for no prompts."""
    if not prompts:
        return {}
    return {
        "accuracy": accuracy_by_prompt(prompts, rewards),
        "length_matched": _length_matched(prompts, rewards),
        "length": _length(prompts, rewards),
        "histogram": _histogram(prompts, rewards),
    }


def _length_matched(prompts: Sequence[Ranked], rewards: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Accuracy over pairs of like length, with its interval over prompts: `rate` only where enough prompts have such pairs."""
    right, all_ = [], []
    for prompt, told in zip(prompts, rewards, strict=True):
        lengths = [answer.length for answer in prompt.answers]
        both = [(pair.winner, pair.loser) for pair in prompt.pairs]
        alike = [(a, b) for a, b in both if abs(lengths[a] - lengths[b]) <= ALIKE * max(lengths[a], lengths[b])]
        right.append(sum(told[a] > told[b] for a, b in alike))
        all_.append(len(alike))
    figure = clustered_rate(right, all_)
    counted = {"pairs": figure.n, "prompts": figure.n_items}
    if figure.value is None or figure.interval is None:
        return counted
    return {"rate": figure.value, "low": figure.interval[0], "high": figure.interval[1], **counted}


def _length(prompts: Sequence[Ranked], rewards: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Correlation of reward and length over answers; none where either never varies."""
    lengths = [answer.length for prompt in prompts for answer in prompt.answers]
    flat = [reward for told in rewards for reward in told]
    if len(flat) < 3 or len(set(lengths)) == 1 or len(set(flat)) == 1:
        return {"answers": len(flat)}
    return {"pearson": float(pearsonr(flat, lengths)[0]), "spearman": float(spearmanr(flat, lengths)[0]), "answers": len(flat)}


def _histogram(prompts: Sequence[Ranked], rewards: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Rewards of chosen and of rejected answers in the same bins, every pair counted once."""
    chosen = [told[pair.winner] for prompt, told in zip(prompts, rewards, strict=True) for pair in prompt.pairs]
    rejected = [told[pair.loser] for prompt, told in zip(prompts, rewards, strict=True) for pair in prompt.pairs]
    edges = numpy.histogram_bin_edges(chosen + rejected, BINS)
    counts = {name: numpy.histogram(some, edges)[0].tolist() for name, some in (("chosen", chosen), ("rejected", rejected))}
    return {"edges": [float(edge) for edge in edges], **counts, "pairs": len(chosen)}
