"""Where further unprompted attempts narrow the headline estimate most, and what they saved."""
