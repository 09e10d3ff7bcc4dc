"""Synthetic data: rows that a model writes after the example of others, sifted, reviewed by people,
and made a dataset."""
