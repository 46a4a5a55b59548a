"""Training: one loop; a method is its batches and its loss. A plan says beforehand what a run will cost."""
