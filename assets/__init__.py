"""Style, logo, starter datasets and probe items: data files, found beside the code."""
