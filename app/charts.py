"""Which lines a chart has and how they look. Pure functions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.wording import say
from engine.catalogue import is_rate, probes

# Okabe and Ito's colours without yellow and black, told apart by marker and dash too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "star")
DASHES = ("solid", "dash", "dot")  # from the seventh line on
MAIN = ("loss", "eval_loss")
ABILITY = "ability/"  # what metrics of watched probes begin with
TITLES = {
    "loss": "Loss",
    "eval_loss": "Held-out loss",
    "eval_perplexity": "Held-out perplexity",
    "learning_rate": "Learning rate",
    "tokens_per_second": "Tokens a second",
    "memory_gb": "Memory (GB)",
    "trained_tokens": "Tokens it was trained on",
    "grad_norm": "Gradient norm",
    "rewards/chosen": "Chosen reward",
    "rewards/rejected": "Rejected reward",
    "rewards/margins": "Margin",
    "rewards/accuracies": "Accuracy",
    "logps/chosen": "Chosen log-probability",
    "logps/rejected": "Rejected log-probability",
    "logits/chosen": "Mean logit on chosen answers",
    "logits/rejected": "Mean logit on rejected answers",
    "accuracy": "Accuracy",
    "margin": "Margin",
    "mean_reward": "Mean reward",
    "accuracy_length_matched": "Accuracy, like length",
    "reward_length_correlation": "Correlation of reward and length",
}
HELD_OUT = "eval_"  # what metrics of held-out rows begin with
# What learning from preferences draws below the losses: each panel with what stands together in it, held out and not.
PREFERENCES = {
    "Rewards": ("rewards/chosen", "rewards/rejected"),
    "Reward margin": ("rewards/margins", "margin"),
    "Reward accuracy, share of pairs": ("rewards/accuracies", "accuracy", "accuracy_length_matched"),
    "Log-probability of answers": ("logps/chosen", "logps/rejected"),
}


@dataclass(frozen=True)
class Line:
    """One line: the series it draws, its name, its panel (0 is the top one), and its look."""

    series: str
    label: str
    panel: int
    colour: str
    marker: str
    sparse: bool  # few points, each worth a marker
    dash: str = DASHES[0]
    heading: str = ""  # of its panel, where that is not the name of its one line


def of_run(names: Iterable[str], main: bool) -> list[Line]:
    """A run's lines: losses together on top, then what is said of preferences, then abilities; or everything else, one panel each."""
    known = sorted(set(names))
    if not main:
        rest = [name for name in known if not is_main(name)]
        return [Line(name, title(name), place, COLOURS[place % 6], MARKERS[place % 6], False) for place, name in enumerate(rest)]
    losses = [name for name in MAIN if name in known]
    watched = [name for name in known if name.startswith(ABILITY) and _is_rate(name)]
    above = [Line(name, title(name), 0, COLOURS[n % 6], MARKERS[n % 6], name == "eval_loss") for n, name in enumerate(losses)]
    panel = 1
    for heading, names_of in PREFERENCES.items():
        there = [name for base in names_of for name in (base, HELD_OUT + base) if name in known]
        above += [
            Line(name, title(name), panel, COLOURS[n % 6], MARKERS[n % 6], name.startswith(HELD_OUT), heading=say(heading))
            for n, name in enumerate(there)
        ]
        panel += bool(there)
    return above + abilities(watched, say("Abilities, share right"), panel)


def chain(names: Mapping[str, str]) -> list[Line]:
    """One line with its interval as a band for each series of a chain of trainings, by what people call it."""
    return [
        Line(name, label, 0, COLOURS[n % 6], MARKERS[n % 6], True, DASHES[n // 6 % 3], say("Abilities, share right"))
        for n, (name, label) in enumerate(names.items())
    ]


def abilities(names: Sequence[str], heading: str, panel: int = 0) -> list[Line]:
    """One line for each ability, all in one panel."""
    return [
        Line(name, title(name), panel, COLOURS[n % 6], MARKERS[n % 6], True, DASHES[n // 6 % 3], heading) for n, name in enumerate(names)
    ]


def is_main(name: str) -> bool:
    """Whether a metric stands in a run's first chart."""
    preferred = any(name.removeprefix(HELD_OUT) in names for names in PREFERENCES.values())
    return name in MAIN or preferred or (name.startswith(ABILITY) and _is_rate(name))


def _is_rate(name: str) -> bool:
    return is_rate(name.removeprefix(ABILITY))


def overlay(runs: list[tuple[int, str]], name: str) -> list[Line]:
    """The same metric of several runs."""
    return [
        Line(f"{run}/{name}", f"{run} {label}", 0, COLOURS[place % 6], MARKERS[place % 6], name == "eval_loss", DASHES[place // 6 % 3])
        for place, (run, label) in enumerate(runs)
    ]


def title(name: str) -> str:
    """A metric's name for people."""
    probe = name.removeprefix(ABILITY)
    if probe != name:
        return say(probes()[probe].title) if probe in probes() else probe.replace("_", " ")
    base = name.removeprefix(HELD_OUT)
    if name not in TITLES and base != name and base in TITLES:
        return say("Held-out {what}", what=say(TITLES[base])[:1].lower() + say(TITLES[base])[1:])
    return say(TITLES.get(name) or name.replace("_", " ").capitalize())
