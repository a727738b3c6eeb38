"""The card of a dataset stands on its page, as inert text."""

from app.pages import Place
from app.pages.dataset_card import TOLD, card
from tests.app.test_library_page import shown


def test_the_card_is_shown_and_takes_nothing_for_markup(database, home, add_artifact) -> None:
    id = add_artifact("dataset", "pairs", format="preference", rows=1, heldout=0, guideline="told above", newest_label=7)
    folder = home.artifact_folder(id)
    assert card(folder) == []
    plain = [text for node in shown(Place(database, home), id) for text in node["c"] if isinstance(text, str)]
    assert "told above" in plain
    (folder / "card.md").write_text("# <img onerror>\n\n## Raters\n- ann: 3\n- ${1+1}\n\n`text`\n")
    nodes = shown(Place(database, home), id)
    told = [(node["t"], text) for node in nodes for text in node["c"] if isinstance(text, str)]
    for one in (("h3", "<img onerror>"), ("h3", "Raters"), ("li", "ann: 3"), ("li", "${1+1}"), ("p", "`text`")):
        assert one in told
    assert "told above" not in [text for _, text in told]
    assert "guideline" in TOLD


def test_rankings_can_be_collected_and_exported_from_their_page(database, home, add_artifact) -> None:
    id = add_artifact("rankings", "mine", format="project")
    links = [node["a"].get("href") for node in shown(Place(database, home), id)]
    assert {f"/new?stage=collect_preferences&rankings={id}", f"/new?stage=export_rankings&rankings={id}"} <= set(links)
