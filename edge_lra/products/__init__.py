"""The integer products of a bundle alone, and what each must give to the last bit."""
