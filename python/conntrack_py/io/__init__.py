"""Input and output: captures, batches, columns, file formats, labels and progress."""
