"""From images to boundary and affinity maps: networks, what they learn from, and their weights."""
