"""Double entry: what is true about the money, and the files that keep it true."""
