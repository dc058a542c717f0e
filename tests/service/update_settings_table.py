"""`python -m tests.service.update_settings_table` rewrites the table of settings in docs/operations.md."""

from dynrefer.service.settings import Settings
from tests.repository import ROOT

OPERATIONS = ROOT / "docs" / "operations.md"
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->\n"


def settings_table() -> str:
    """One row per setting: name, default, and how to choose it."""
    rows = ["| setting | default | what it is, and how to choose it |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        if default in (None, (), ""):
            shown = "none"
        elif isinstance(default, float) or name == "port":
            shown = f"{default:g}"
        else:
            shown = f"{default:,}" if isinstance(default, int) else str(default)
        rows.append(f"| `{name}` | {shown} | {field.description} |")
    return "\n".join(rows) + "\n"


def with_table(text: str) -> str:
    """The document with the table that the code gives."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + settings_table() + END + after


if __name__ == "__main__":
    OPERATIONS.write_text(with_table(OPERATIONS.read_text(encoding="utf-8")), encoding="utf-8")
