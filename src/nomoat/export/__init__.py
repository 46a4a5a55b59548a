"""Take a base and its stack anywhere: GGUF, PEFT and Hugging Face folders, Ollama, each with a receipt."""
