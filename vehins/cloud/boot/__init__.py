"""What keeps the box as its stack says: files that are copied there, and not imported by vehins."""
