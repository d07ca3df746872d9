"""A running OpenAI-compatible server as engine: requests, streams, retries and whose weights answer."""
