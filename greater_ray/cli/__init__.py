"""The greater-ray command: options in, one call of the API, screen out."""
