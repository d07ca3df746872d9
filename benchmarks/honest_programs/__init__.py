"""Whether right solutions that use rare parts of the standard library pass in every tier."""
