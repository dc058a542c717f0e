"""DynRefer (arXiv 2405.16071): its configuration, its parts, and the assembly."""
