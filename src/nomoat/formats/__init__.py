"""Model and adapter files as plain dicts and arrays: GGUF, Hugging Face folders, PEFT folders.

Every file is taken as hostile: nothing is believed before it is checked against the size of the file, and
what cannot be true raises a ``FormatError``.
"""
