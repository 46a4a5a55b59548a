"""HTTP only: the OpenAI and Ollama APIs over the engine's service. Nothing here prints; ``cli.serve`` does."""
