"""OpenAI's batches: many requests in a file, answered by and by, and their answers in files."""
