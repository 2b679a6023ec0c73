"""Messages and stubs that are generated from proto/attnprune/v1."""
