"""Reports of an evaluation: tables, JSON, Markdown and plots."""
