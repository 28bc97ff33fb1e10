"""The documents' code blocks, run as they stand there."""
