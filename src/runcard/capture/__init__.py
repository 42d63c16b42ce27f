"""What surrounds a run, one file a question; nothing here ever raises into it."""
