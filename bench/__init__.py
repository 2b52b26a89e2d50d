"""One command a figure: `python -m bench NAME` prints one JSON line with a ratio against a peer of the same run."""
