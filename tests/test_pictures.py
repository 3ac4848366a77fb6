"""Pictures are read as they are stored, at every depth, or refused by name; whatever else is in a file."""
