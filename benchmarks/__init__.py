"""How fast it is, measured side by side: `just bench`, which writes docs/performance.md."""
