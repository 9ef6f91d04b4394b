"""The wheel installer: files of wheels become entries of a layer."""
