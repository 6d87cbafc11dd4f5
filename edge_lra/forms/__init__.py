"""The form of each of an encoder's linears, chosen by measured error and time under limits."""
