"""Assignments by ILP: hypotheses of every slice, links between them, their costs, the best choice of all."""
