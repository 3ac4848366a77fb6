"""The commands of `ssimgen`, one file a command: options, work, and what is shown of it."""
