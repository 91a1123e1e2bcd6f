"""The one engine: a convex program in, its certified optimum out."""
