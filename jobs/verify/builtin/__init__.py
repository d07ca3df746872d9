"""Built-in exploit families in djinn's schema and names, one file each."""
