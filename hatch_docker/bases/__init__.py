"""Base images: reading or making them, and reading facts such as the Python version from their files."""
