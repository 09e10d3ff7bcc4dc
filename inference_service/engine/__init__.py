"""Text generation: continuous batching over base models and their adapters; knows no web."""
