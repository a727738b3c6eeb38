"""`dianjing user`: who may sign in where others can reach the dashboard."""

import sys
from typing import Annotated

import typer
from sqlmodel import Session

from engine import users
from engine.options import HomeOption, open_home
from storage import people, queries

user = typer.Typer(no_args_is_help=True, help="Who may sign in where others can reach the dashboard.")
Name = Annotated[str, typer.Argument(help="The user's name.")]
Stdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@user.command()
def add(
    name: Name,
    role: Annotated[str, typer.Option(help="owner: may do everything; rater: sees the label pages only.")],
    password_stdin: Stdin = False,
    home: HomeOption = None,
) -> None:
    """Let somebody sign in."""
    _, database = open_home(home)
    users.add(database, name, role, _password(password_stdin), queries.utc_now())
    typer.echo(f"{name} may sign in as {role}")


@user.command("list")
def list_(home: HomeOption = None) -> None:
    """List who may sign in."""
    with Session(open_home(home)[1]) as session:
        for one in people.users(session):
            typer.echo(f"{one.name:<24} {one.role:<8} since {one.created_at:%Y-%m-%d}{'' if one.password_hash else ', no password yet'}")


@user.command()
def remove(name: Name, home: HomeOption = None) -> None:
    """Let somebody in no longer; where they are signed in, they are signed out."""
    users.remove(open_home(home)[1], name)
    typer.echo(f"{name} may not sign in any more")


@user.command()
def password(name: Name, password_stdin: Stdin = False, home: HomeOption = None) -> None:
    """Give somebody another password; where they are signed in, they are signed out."""
    _, database = open_home(home)
    users.set_password(database, name, _password(password_stdin))
    typer.echo(f"{name} has a new password")


@user.command()
def link(name: Name, home: HomeOption = None) -> None:
    """Print a one-time link with which somebody sets a password of their own, within a day."""
    token = users.invite(open_home(home)[1], name, queries.utc_now())
    typer.echo(f"/welcome?token={token} behind the dashboard's address")


def _password(stdin: bool) -> str:
    if stdin:
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt="The same again"))
