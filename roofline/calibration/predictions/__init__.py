"""What the product predicts for each row of a measurement table, or why it cannot."""
