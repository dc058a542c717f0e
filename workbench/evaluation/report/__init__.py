"""What an evaluation writes: tables, JSON, Markdown and plots."""
