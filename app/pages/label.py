"""Label: the raters' own app, mounted beside the owners'. So far it says that there is nothing to rank."""

import gradio as gr

from app.pages import Place, signed_in
from app.view import Node, empty, h, view
from app.wording import say


def build(_place: Place) -> gr.Blocks:
    """An app of its own, since Gradio shows all of an app's components to whoever may see one page of it."""
    with gr.Blocks(title="Dianjing", analytics_enabled=False) as demo:
        shown = view()
        demo.load(tree, None, shown, queue=False, show_progress="hidden", api_visibility="private")
    return demo


def tree(request: gr.Request) -> list[Node]:
    """Who is signed in, and what there is to rank."""
    return [h("h1", say("Label")), *signed_in(request), empty(say("There is nothing to rank yet."))]
