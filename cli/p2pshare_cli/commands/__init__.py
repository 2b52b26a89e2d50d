"""One file a family of commands. A command turns words into one call and its answer into lines."""
