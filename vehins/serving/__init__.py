"""The HTTP service: a verified model behind a typed request, and one shape for every answer that is an error."""
