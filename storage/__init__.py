"""What is remembered: tables, the database file, and the folders beside it. Imports nothing of ours."""
