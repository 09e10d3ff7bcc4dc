"""What was asked and answered: kept for a while, looked up, rated, and made a dataset of."""
