"""`genplat batch`: a dataset in, a model's answers out; goes on where it was killed."""
