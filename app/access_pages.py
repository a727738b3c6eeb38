"""The few pages that are seen before anybody is signed in: plain HTML, no script."""

from html import escape
from urllib.parse import quote

from app.wording import say

STYLE = """
:root{--paper:#FBFAF7;--card:#fff;--ink:#1B1D21;--soft:#5D6269;--line:#E4E1DA;--red:#D0392B;--on:#fff;--lost:#AB5A00;color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--paper:#14161A;--card:#1C1F25;--ink:#ECEAE4;--soft:#A3A7AE;--line:#2C3038;--red:#E8604F;--on:#14161A;--lost:#F0A04B}}
body{background:var(--paper);color:var(--ink);font:15px/1.5 ui-sans-serif,system-ui,"Noto Sans","Noto Sans CJK SC",sans-serif;margin:0}
main{max-width:340px;margin:14vh auto 0;padding:0 20px}h1{font-size:24px;margin:0 0 20px}label{display:block;margin:0 0 14px;color:var(--soft);font-size:14px}
input{display:block;width:100%;box-sizing:border-box;font:inherit;font-size:15px;padding:9px 11px;margin-top:4px;border:1px solid var(--line)}
input{border-radius:8px;background:var(--card);color:var(--ink)}input:focus{outline:2px solid #2F6DB5}
button{font:inherit;font-weight:600;padding:9px 18px;border:0;border-radius:8px;background:var(--red);color:var(--on);cursor:pointer}
p.problem{border:1px solid var(--line);border-left:3px solid var(--lost);border-radius:8px;padding:10px 12px}
"""  # noqa: E501


def login(wanted: str, name: str = "", problem: str = "") -> str:
    """Name and password; what went wrong the last time."""
    fields = _field(say("Name"), "name", "text", "username", name) + _field(say("Password"), "password", "password", "current-password")
    target = f"/login?next={quote(wanted, safe='/')}"
    return _page(say("Sign in"), problem, f'<form method="post" action="{target}">{fields}{_button(say("Sign in"))}</form>')


def welcome(name: str, problem: str = "") -> str:
    """Somebody with a one-time link chooses a password."""
    fields = _field(say("Password"), "password", "password", "new-password") + _field(
        say("The same again"), "again", "password", "new-password"
    )
    hint = f"<p>{escape(say('You will sign in as {name}. Choose a password of at least ten characters.', name=name))}</p>"
    return _page(say("Welcome"), problem, f'<form method="post">{hint}{fields}{_button(say("Set the password"))}</form>')


def logout() -> str:
    """Are you sure."""
    return _page(say("Sign out"), "", f'<form method="post" action="/logout">{_button(say("Sign out"))}</form>')


def message(text: str) -> str:
    """Nothing but a sentence."""
    return _page("Dianjing", text, "")


def _page(title: str, problem: str, body: str) -> str:
    told = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; form-action 'self'">
<title>{escape(title)} · Dianjing</title><style>{STYLE}</style><main><h1>{escape(title)}</h1>{told}{body}</main></html>"""


def _field(title: str, name: str, kind: str, complete: str, value: str = "") -> str:
    return f'<label>{escape(title)}<input name="{name}" type="{kind}" autocomplete="{complete}" value="{escape(value)}" required></label>'


def _button(title: str) -> str:
    return f"<button>{escape(title)}</button>"
