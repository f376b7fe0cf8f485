"""Models, precisions, engines: the only room that knows torch."""
