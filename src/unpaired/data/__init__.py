"""What comes in: types, reading, preprocessing, examples."""
