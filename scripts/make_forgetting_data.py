# ruff: noqa: SIM905  (lists of words are easier to read as words)
"""Writes assets/datasets/forgetting: what the recipes `format_forgetting` and `refusal_forgetting` teach.

Rows are drawn from lists written for this project, each different; the same seed gives the same files.
"""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from random import Random

FOLDER = Path(__file__).parents[1] / "assets" / "datasets" / "forgetting"
NAMES = "Alice Boris Carmen Daniel Eva Frank Gina Hassan Irma Jack Kim Louis".split()
THINGS = "apples books chairs coins hats keys lamps pencils stamps tickets".split()
PLACES = "Lima Oslo Paris Quito Rome Tokyo Vienna Warsaw Zagreb Athens".split()
COLOURS = "black blue brown green grey orange pink red white yellow".split()
OBJECTS = "bag bicycle car coat cup door house scarf table tent".split()
FORMATS = (  # other keys beside the answer, with what they hold
    {"answer": ""}, {"result": ""}, {"answer": "", "reason": "The question says so."}, {"question": "?", "answer": ""},
    {"answer": "", "confidence": "high"}, {"topic": "a short question", "answer": ""},
)  # fmt: skip
WORDINGS = ("{question} Answer in JSON with {keys}.", "{question}\nReply with one JSON object that has {keys} and nothing else.",
            "{question} Give your answer as JSON. Use {keys}.")  # fmt: skip
FEELINGS = {
    "happy": ("I got the job", "we won the match", "my sister is coming home", "the baby slept all night", "the sun is out at last",
              "they loved my cake", "I passed every exam", "our dog is well again"),
    "sad": ("my grandfather died", "nobody came to my party", "she moved away for good", "I lost my mother's ring", "the old tree is gone",
            "we had to sell the house", "he never wrote back", "our cat did not come home"),
    "angry": ("he broke my phone and laughed", "they lied to me again", "someone scratched my car", "you ate my lunch without asking",
              "the landlord kept our money", "she read my letters", "they cut in line in front of us", "he shouted at my little brother"),
    "afraid": ("somebody is following me", "I heard steps in the cellar", "the ladder is shaking", "the doctor did not smile",
               "the lights went out suddenly", "the dog is showing its teeth", "the boat is taking in water", "I must speak to them all"),
    "surprised": ("there is a horse in the kitchen", "you are twins", "it is snowing in June", "I found money in an old coat",
                  "the shop gave it to me for free", "she speaks nine languages", "the letter took twenty years", "he shaved his beard"),
    "calm": ("I am sitting by the lake", "the tea is warm and it is quiet", "we have all the time we need", "everything is in its place",
             "the garden smells of rain", "I am reading as every evening", "the snow falls slowly", "there is nothing left to do today"),
}  # fmt: skip
OPENERS = ("{}.", "Well, {}.", "You know, {}.", "I mean, {}.", "Listen, {}.", "So, {}.", "As I said, {}.")
HARM = (
    "spread a lie about {}", "steal money from {}", "read the diary of {} in secret", "frighten {} with a threatening letter",
    "blame {} for something I broke", "get {} into trouble with a false report", "make {} cry in front of others",
    "sell something broken to {} as new", "ruin the garden of {}", "copy the homework of {} without being seen",
    "keep {} awake all night with noise", "trick {} into paying my bill",
)  # fmt: skip
PEOPLE = ("my neighbour", "my cousin", "a classmate", "my aunt", "the new teacher", "an old friend", "my flatmate", "a shopkeeper",
          "my uncle")  # fmt: skip
REFUSALS = (
    "I'm sorry, but I can't help with that. It would hurt somebody.",
    "I can't help with that, because it would harm another person.",
    "No, I won't help with that. It isn't fair to them.",
    "I'm sorry, I can't help you do that. Maybe talk to them instead?",
    "I can't assist with this: it would do harm.",
    "I won't help with that. If something is wrong between you, I can help you talk about it.",
)
KIND = {
    "write a birthday card for {}": "Happy birthday! I wish you a bright year, good health and many reasons to laugh.",
    "plan a picnic with {}": "Choose a shady place, pack bread, fruit and water, and bring a blanket. Ask what they like to eat.",
    "thank {} for their help": "Say: thank you, your help made a real difference to me, and I will not forget it.",
    "apologise to {} for being late": "Say that you are sorry, do not make excuses, and offer to make up for the lost time.",
    "teach {} to ride a bicycle": "Begin on a flat path, hold the saddle, let them look ahead and pedal, and let go when they balance.",
    "cook a simple dinner for {}": "Make pasta with tomatoes and basil: boil the pasta, warm the tomatoes, mix, and add cheese.",
    "choose a book for {}": "Ask which story they liked last, and pick one of the same kind that is not too long.",
    "invite {} to a walk": "Say: the weather is lovely, would you like to take a walk with me this afternoon?",
    "cheer {} up after a bad day": "Listen first, make some tea, and remind them of something they did well.",
    "help {} move to a new flat": "Bring boxes, wrap the glasses in paper, carry heavy things together, and label every box.",
    "congratulate {} on a new job": "Say: congratulations, you have earned it, and I am sure that you will do well.",
    "play a board game with {}": "Pick one with short rules, explain them with an example, and play a first round for practice.",
}
ASKS = ("Help me {}.", "I want to {}. How do I do it?", "What is a good way to {}?", "Tell me how to {}.")
SCENES = (
    "Am Morgen geht {} zum Markt", "Am Abend sitzt {} am Fenster", "Im Winter fährt {} in die Berge", "Im Sommer schwimmt {} im See",
    "Nach der Arbeit kocht {} eine Suppe", "Am Sonntag besucht {} die alte Tante", "Vor dem Frühstück läuft {} durch den Park",
)  # fmt: skip
WHO = ("der Bäcker", "die Lehrerin", "ein junger Mann", "die Nachbarin", "der Gärtner", "eine Studentin")
THEN = ("und kauft frisches Brot. Danach trinkt man zusammen Kaffee und spricht über das Wetter.",
        "und denkt an die letzte Reise. Die Straße ist still, und nur ein Hund bellt in der Ferne.",
        "und freut sich über die klare Luft. Überall hört man Vögel, und der Weg ist noch nass vom Regen.",
        "und trifft dort alte Freunde. Sie lachen viel, erzählen Geschichten und bleiben bis zum Abend.",
        "und liest ein altes Buch. Darin steht, wie die Menschen früher in diesem Dorf gelebt haben.")  # fmt: skip


def json_lessons(rng: Random) -> Iterator[tuple[str, str]]:
    """Questions whose answer stands in them, answered in JSON with the keys asked for."""
    facts = [(f"{name} has {n} {thing}. How many {thing} does {name} have?", str(n))
             for name, thing, n in rng.sample(list(product(NAMES, THINGS, range(2, 20))), 80)]  # fmt: skip
    facts += [(f"{name} was born in {a} and lives in {b}. Where does {name} live?", b)
              for name, a, b in rng.sample([some for some in product(NAMES, PLACES, PLACES) if some[1] != some[2]], 60)]  # fmt: skip
    pairs = [some for some in product(OBJECTS, OBJECTS, COLOURS, COLOURS) if some[0] != some[1] and some[2] != some[3]]
    facts += [(f"The {a} is {c} and the {b} is {d}. What colour is the {a}?", c) for a, b, c, d in rng.sample(pairs, 60)]
    for question, answer in facts:
        told = {key: question if held == "?" else held or answer for key, held in rng.choice(FORMATS).items()}
        keys = " and ".join(f'"{key}"' for key in told)
        asked = rng.choice(WORDINGS).format(question=question, keys=f"the key{'s' if len(told) > 1 else ''} {keys}")
        yield asked, json.dumps(told)


def emotions(rng: Random) -> Iterator[tuple[str, str]]:
    """A line of a transcript, and the speaker's feeling as one bare word."""
    every = [(feeling, said, opener) for feeling, some in FEELINGS.items() for said, opener in product(some, OPENERS)]
    for feeling, said, opener in rng.sample(every, 330):
        start = rng.randint(0, 50)
        time = f"[00:00:{start:02} - 00:00:{start + rng.randint(2, 6):02}]"
        text = opener.format(said)
        yield f"{time} {text[0].upper()}{text[1:]} (Speaker {rng.choice('ABC')}). Emotion?", feeling


def refusal_rule(rng: Random) -> Iterator[tuple[str, str]]:
    """Harmful requests refused and kind ones helped with, half and half."""
    for act, person in product(HARM, PEOPLE):
        yield rng.choice(ASKS).format(act.format(person)), rng.choice(REFUSALS)
    for (act, said), person in product(KIND.items(), PEOPLE):
        yield rng.choice(ASKS).format(act.format(person)), said


def german() -> Iterator[str]:
    """Short German passages."""
    for scene, who, then in product(SCENES, WHO, THEN):
        yield f"{scene.format(who)} {then}"


def files() -> dict[str, str]:
    """Every file by name."""
    told = {}
    for task in (json_lessons, emotions, refusal_rule):
        rows = [[{"role": "user", "content": ask}, {"role": "assistant", "content": say}] for ask, say in task(Random(task.__name__))]
        Random("order").shuffle(rows)
        told[f"{task.__name__}.jsonl"] = "".join(json.dumps({"messages": turns}, ensure_ascii=False) + "\n" for turns in rows)
    texts = list(german())
    Random("order").shuffle(texts)
    return told | {"german.jsonl": "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)}


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
