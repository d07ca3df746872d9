"""What a model's folder holds, read without loading it: weights, adapters, configuration, and what they come to."""
