"""Lock files and resolution."""
