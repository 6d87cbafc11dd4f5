"""The proof of a language model: perplexity and KL on text, against the float model."""
