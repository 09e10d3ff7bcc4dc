"""What GenPlat's speed is against its peers: each file is one benchmark, run as a module."""
