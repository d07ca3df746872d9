"""vLLM in process: the engine, its core in processes of its own, and what is done about both."""
