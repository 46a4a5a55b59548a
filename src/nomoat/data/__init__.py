"""Files to rows: read, clean, split, write as an artefact; rows to token ids: encode and pack."""
