"""The commands: a module for each one, or for a few that share their options."""
