"""The commands: a module for each command, or for several commands with the same options."""
