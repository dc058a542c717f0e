"""What is measured, and how; results are committed as JSON under results/."""
