"""`genplat pipeline`: the steps of a YAML file, one after the other, nothing twice."""
