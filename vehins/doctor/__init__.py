"""What must be right before the chain can run: this installation, and the way to each store."""
