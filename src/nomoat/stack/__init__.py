"""Adapter algebra: several adapters active together, combined into one, folded into their base and taken out again."""
