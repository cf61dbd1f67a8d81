"""Propagation: objects that are seeded on one slice are followed through the others."""
