"""Estimators of scikit-learn that select features: sparse regression, and selectors."""
