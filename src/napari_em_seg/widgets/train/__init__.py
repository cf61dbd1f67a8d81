"""The dock "Train": networks and forests that learn from labels, and fine-tuning from a few strokes."""
