"""The HTML page of `inspect --html`."""
