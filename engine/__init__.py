"""The work: stages, recipes, and the processes that run them. Never imports gradio."""
