"""Loops: retrain, evaluate, gate, deploy and promote, from one request."""
