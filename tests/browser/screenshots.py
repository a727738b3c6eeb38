"""A picture of every page, at two widths, in light and dark: `python -m tests.browser.screenshots [FOLDER] [--home HOME] [--docs FOLDER]`.

HOME is one where the quickstart has been run; without it a home made of test rows is drawn, hostile text and all.
--docs also writes the few pictures that the README shows, so that they never grow old.
"""

import argparse
import tempfile
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser
from sqlmodel import Session

from app import access_pages
from storage import answers, labels, listings, queries
from storage.database import open_database
from storage.files import Home
from tests.browser.conftest import chromium, dashboard
from tests.browser.seed import seed
from tests.rankings_seed import seed_project

MEASURED = '[["contains", []]]'
README = ("home", "new", "runs", "run", "forgetting", "compare", "talk", "report", "label", "ranking", "library")


def main() -> None:
    """Draw every page of a filled home, and the first page of an empty one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("screenshots"))
    parser.add_argument("--home", type=Path)
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--only", nargs="*")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, chromium() as browser:
        home = given.home or Path(place) / "filled"
        if not given.home:
            seed(Home(home))
            seed_project(open_database(Home(home)))
        found = pages(home)
        with dashboard(home, "--no-spare") as address:
            for width, theme in ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")):
                for name in given.only or found:
                    draw(browser, address + found[name], given.folder / f"{name}-{width}-{theme}.png", width, theme)
            for name in README if given.docs else ():
                draw(browser, address + found[name], given.docs / f"{name}.png", 1280, "light", whole=False)
            for width, theme in ((1280, "light"), (390, "dark")):
                page = browser.new_page(viewport={"width": width, "height": 600}, color_scheme=theme)  # type: ignore[arg-type]
                page.set_content(access_pages.login("/"))
                page.screenshot(path=given.folder / f"login-{width}-{theme}.png")
                if given.docs and theme == "light":
                    page.screenshot(path=given.docs / "login.png")
                page.close()
        if not given.only:
            with dashboard(Path(place) / "bare", "--no-spare") as address:
                draw(browser, address + "/", given.folder / "empty-1280-light.png", 1280, "light")
                draw(browser, address + "/runs", given.folder / "no-runs-1280-light.png", 1280, "light")


def pages(home: Path) -> dict[str, str]:
    """Addresses worth a picture in this home."""
    with Session(open_database(Home(home))) as session:
        runs = {(run.stage, run.status): run.id for run in queries.runs(session)}
        kinds = {artifact.kind: artifact.id for artifact in queries.artifacts(session)}
        trained = [str(run.id) for run in queries.runs(session, stage="finetune")]
        asked = [project.artifact for project, _ in labels.projects(session)]
        talks = [run.id for run in listings.conversations(session)]
        columns = {one.name: [answers.key_of(column, one) for column in answers.columns(one)] for one in answers.sets(session)}
        most = max(columns.values(), key=len, default=[])
        compared = most if len(most) > 1 else [key for keys in columns.values() for key in keys][:4]
    found = {f"{stage}-{status}": f"/runs?run={id}" for (stage, status), id in runs.items()}
    found |= {f"library-{kind}": f"/library?artifact={id}" for kind, id in kinds.items()}
    return found | {
        "home": "/",
        "choose": "/new",
        "new": f"/new?stage=finetune&data={kinds.get('dataset', '')}",
        "import": "/new?stage=import_dataset",
        "quickstart": "/new?recipe=quickstart",
        "runs": "/runs",
        "run": found.get("finetune-succeeded", "/runs"),
        "overlay": f"/runs?compare={','.join(trained[:3])}",
        "choose-answers": "/compare",
        "compare": f"/compare?answers={','.join(compared)}&measures={quote(MEASURED)}",
        "talk": f"/compare?talk={talks[0]}" if talks else "/compare?live=1,3",
        "plan": "/runs?plan=1",
        "forgetting": "/forgetting",
        "reports": "/report",
        "report": f"/report?report={kinds.get('report', '')}",
        "library": "/library",
        "curate": f"/curate?dataset={kinds.get('dataset', '')}",
        "rankings": "/rankings",
        "ranking": f"/rankings?project={asked[0] if asked else ''}",
        "label": f"/label/?project={asked[0] if asked else ''}",
        "missing": "/runs?run=999",
    }


def draw(browser: Browser, address: str, path: Path, width: int, theme: str, whole: bool = True) -> None:
    """One page, once it stands still."""
    path.parent.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(viewport={"width": width, "height": 860}, color_scheme=theme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(address)
    page.wait_for_function("document.querySelector('.dj h1, .dj .problem')", timeout=30000)
    page.wait_for_timeout(1200)
    if page.locator(".dj-rank .gate").is_visible():  # the guideline comes first
        page.keyboard.press("Enter")
        page.wait_for_timeout(300)
    page.screenshot(path=path, full_page=whole)
    context.close()


if __name__ == "__main__":
    main()
