"""The ranking widget: one item, ranked by keyboard, by click or by drag; all three make the same change and the same event.

What raters read was written by models and by strangers. As with app/view.py the template is constant, the value is JSON,
and assets/rank.js makes elements with textContent only.
"""

from typing import Any

import gradio as gr

from app.view import ASSETS, script
from app.wording import say
from engine.rankings import FLAGS, REASONS, STRENGTHS


def rank_widget(**options: Any) -> gr.HTML:
    """A component that ranks. Its events carry {"project", "as", "said"}: `submit` a label, `undo` the last one, `more` asks for an item.

    A function and not a subclass: Gradio writes a stub file beside every module that subclasses a component.
    """
    return gr.HTML(
        html_template="<div class='dj-rank'></div>",
        js_on_load="""dianjing.rank(element, props, watch, {
            submit: (data) => trigger('submit', data), undo: (data) => trigger('undo', data), more: (data) => trigger('more', data),
        })""",
        head=script(ASSETS / "view.js", ASSETS / "markdown.js", ASSETS / "rank_state.js", ASSETS / "rank.js"),
        apply_default_css=False,
        **options,
    )


def setup() -> dict[str, Any]:
    """What the widget needs to know once: its words, and what can be said of an answer or of an item."""
    choices = {"flags": FLAGS, "reasons": REASONS, "strengths": list(STRENGTHS.values())}
    return {name: [[one, say(one)] for one in known] for name, known in choices.items()} | {"words": words()}


def words() -> dict[str, str]:
    """Every sentence of the widget, in the person's language; {names} are filled in by the browser."""
    return {
        # the item
        "answer": say("Answer {letter}"),
        "ranked": say("Answer {letter}, rank {rank}"),
        "unranked": say("Answer {letter}, no rank yet"),
        "practice": say("practice"),
        "practice_note": say("This one is practice: its best ranking is known, and you see it when you have submitted yours."),
        "unseen": say("not read yet"),
        "expand": say("Show all"),
        "collapse": say("Show less"),
        "raw": say("Raw"),
        "rendered": say("Rendered"),
        "progress": say("{done} / {of}"),
        "overall": say("Overall"),
        "by": say("By {criterion}"),
        "better_one": say("{letter} is better"),
        "tie": say("Tie"),
        "strength": say("How much better?"),
        "board": say("Ranking"),
        "best": say("best"),
        "better_place": say("better"),
        "tray": say("not ranked"),
        "line": say("acceptable line"),
        "above_line": say("acceptable"),
        "guideline": say("Guideline"),
        "prompt": say("Prompt"),
        "user": say("user"),
        "assistant": say("assistant"),
        "system": say("system"),
        "tool": say("tool"),
        # buttons
        "submit": say("Submit"),
        "skip": say("Skip"),
        "undo": say("Undo"),
        "comment": say("Comment"),
        "write": say("Write a better answer"),
        "flag": say("Flag"),
        "acceptable": say("Acceptable"),
        "none_acceptable": say("None acceptable"),
        "help": say("Help"),
        "close": say("Close"),
        "retry": say("Send again"),
        "go_on": say("Continue"),
        "look_again": say("Look again"),
        "all_projects": say("All projects"),
        "confirm": say("I have read it"),
        "confirm_submit": say("I have read it: submit"),
        "change_first": say("Change my ranking first"),
        # what is announced
        "says_rank": say("Answer {letter} on rank {rank}. {left}"),
        "says_moved": say("Answer {letter} on rank {rank}; answer {other} took its place. {left}"),
        "says_better": say("Answer {letter} is better. {left}"),
        "says_tie": say("Tie."),
        "says_strength": say("{word} better."),
        "left": say("{n} without a rank."),
        "none_left": say("All are ranked."),
        "says_line": say("Acceptable down to answer {letter}."),
        "says_line_off": say("No acceptable line."),
        "says_line_none": say("No answer is acceptable."),
        "says_flag_on": say("Answer {letter}: {flag}."),
        "says_flag_off": say("Answer {letter}: {flag} taken back."),
        "says_item": say("Item {n} of {of}."),
        "says_undone": say("The last one is taken back; it is as you left it."),
        "says_submitted": say("Saved."),
        # hints
        "no_ties": say("Ties are off in this project: give every answer a rank of its own."),
        "nothing_above": say("Nothing is ranked above it: put another answer on a rank first."),
        "no_such_rank": say("There is no rank {rank} here: ranks go from 1 to {of}."),
        "rank_first": say("Give this answer a rank first; the acceptable line comes below it."),
        "line_elsewhere": say("The acceptable line belongs to the ranking by {criterion}."),
        "missing_ranks": say("{criterion}: no rank yet for {letters}."),
        "missing_choice": say("{criterion}: choose the better answer with ← or →, or = for a tie."),
        "missing_strength": say("Say how much better it is: 1 to 4."),
        "missing_seen": say("Not read yet: {letters}. Open each answer and read it to its end."),
        "skip_why": say("Why do you skip this one?"),
        "flags_of": say("What is wrong with answer {letter}?"),
        "comment_hint": say("A comment for the owner of this project. Escape leaves the box."),
        "write_hint": say("What would have been a better answer than all of these? Escape leaves the box."),
        "sending": say("Sending …"),
        "no_answer": say("The server has not answered. What you entered is kept: send it again, it will be counted once."),
        "not_received": say("This was sent, and not received. What you entered is kept: submit it again."),
        "undo_again": say("Not undone: the server has not answered. Press Undo again."),
        "read_guideline": say("Read the guideline before you begin."),
        "changed_guideline": say("The guideline has changed. Read it again; what you entered is kept."),
        # feedback and ends
        "right": say("Right: this is the known ranking."),
        "known": say("Known to be better: {gold}. Yours: {yours}."),
        "done": say("That is all for you here. Thank you."),
        "done_next": say("Items that others leave unfinished may still come back: look again later."),
        "paused": say("This project is paused."),
        "paused_next": say("All that you submitted is kept. Come back later, or ask the project's owner when it goes on."),
        "closed": say("This project is closed."),
        "closed_next": say("All that was submitted is kept; nothing more is needed from you."),
        "empty": say("There is nothing to rank in this project."),
        # help
        "key_digits": say("put the focused answer on this rank"),
        "key_strength": say("how much better: negligibly to significantly"),
        "key_sides": say("the left or the right answer is better"),
        "key_tie": say("tie with the answer ranked above"),
        "key_tie_pair": say("neither is better"),
        "key_move": say("go to the next or the previous answer"),
        "key_expand": say("open or close a long answer"),
        "key_line": say("acceptable down to the focused answer; again: no line"),
        "key_none": say("no answer is acceptable; again: no line"),
        "key_flag": say("say what is wrong with the focused answer"),
        "key_criteria": say("the previous or the next criterion"),
        "key_raw": say("raw or rendered text"),
        "key_enter": say("submit"),
        "key_escape": say("leave a box or a question"),
        "drag_hint": say("Or drag an answer's letter, or the acceptable line, to a rank."),
    }
