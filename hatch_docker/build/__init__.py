"""The build of an image, from the project to the receipt."""
