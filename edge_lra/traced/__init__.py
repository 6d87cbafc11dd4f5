"""Models without a recipe: any torch module or transformers class, by torch.export."""
