"""The dashboard. Knows Gradio, never imports torch."""
