"""The decoder and what belongs to it: families, frozen matrices, adapters, cache, tokenizer, chat template."""
