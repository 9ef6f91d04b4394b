"""The first minute of a project with us: what it is, what it runs, and the few lines that it needs (`init`)."""
