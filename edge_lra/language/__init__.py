"""The proof of a language model: perplexity and KL on text, against a float model that fits."""
