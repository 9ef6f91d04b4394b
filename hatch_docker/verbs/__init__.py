"""Commands of `hatch-docker`, a module each: `add` declares one, `run` runs it and imports what is heavy."""
