"""Where models come from: the catalogue, and pull with its four kinds of source."""
