"""Words and documents: files of raw text (`corpus`), vocabularies, and what a tokenizer keeps in its folder."""
